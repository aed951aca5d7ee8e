"""Jobs of several processes on this machine, started by the launcher, for tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 600  # a job's longest time: far above what a busy machine takes, compilation included


UNOPTIMIZED = "--xla_backend_optimization_level=0"
"""XLA's flag for processes that compile much and compute little."""


def environment(devices):
    """One set of XLA's flags for all."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "XLA_FLAGS": UNOPTIMIZED,
        "PYTHONPATH": str(ROOT),
        "UNCLIP": str(Path(sys.executable).parent / "unclip"),
    }


class Job:
    """`launch/local.sh`, or the command alone for one process, as it runs."""

    def __init__(self, log, args, processes=1, devices=1):
        command = [str(ROOT / "launch" / "local.sh"), str(processes)]
        command = command if processes > 1 else [sys.executable, "-m", "unclip_jax"]
        self.args, self.log = [str(arg) for arg in args], log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, *self.args],
                env=environment(devices),
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(ProcessLookupError):  # whatever is left, the stopped ones too
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def told(self):
        """What it has said on stderr so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, word):
        """Returns when a word stands on stderr; an early end is an error."""
        until = time.monotonic() + SECONDS
        while word not in self.told():
            assert self.process.poll() is None and time.monotonic() < until, self.told()
            time.sleep(0.05)

    def end(self):
        """Waits for the end; returns (exit code, stdout)."""
        out, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out.decode()

    def pid_of(self, number):
        """The process of a number."""
        ending = f"--process-id\0{number}\0"
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_text()
                if words.endswith(ending) and all(arg in words for arg in self.args):
                    return int(path.parent.name)
        raise AssertionError(f"no process {number}: {self.told()}")

    def signal(self, number, what):
        """Sends a signal to the process of a number."""
        os.kill(self.pid_of(number), what)
