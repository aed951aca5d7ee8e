"""Peak memory of a few lines of Python, in a process of their own."""

import subprocess
import sys

_REPORT = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_mib(code: str) -> float:
    """Runs `code` and returns the most memory, in MiB, that its process held.

    VmHWM is that of the program alone; getrusage's figure starts at its parent's.
    """
    done = subprocess.run(
        [sys.executable, "-c", code + _REPORT], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1]) / 1024
