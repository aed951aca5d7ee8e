"""What else may happen to a run: a function each, which returns what was seen."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kill.jobs import JOBS, ROOT, Job, check, environment, prepared, trained

NAMED = {job.name: job for job in JOBS}
PRIOR = NAMED["prior_diffusion"]
LINE = re.compile(r"^unclip: error: .+$", re.M)


def one_line(done: subprocess.CompletedProcess, words: str) -> str:
    """Returns the line with which a command was refused."""
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stderr[-500:]}"
    assert "Traceback" not in done.stderr, done.stderr[-800:]
    lines = LINE.findall(done.stderr)
    assert len(lines) == 1 and words in lines[0], done.stderr[-500:]
    return lines[0]


def start_four(out: Path) -> subprocess.Popen:
    """Starts a training in four processes."""
    command = [str(ROOT / "launch" / "local.sh"), "4", *map(str, PRIOR.args(out))]
    env = environment(UNCLIP=str(Path(sys.executable).parent / "unclip"))
    return subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def pids(job: subprocess.Popen) -> list[int]:
    """Returns the processes of a job, in their order."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    found = {}
    for pid in children:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "--process-id" in words:
            found[int(words[words.index("--process-id") + 1])] = int(pid)
    return [found[number] for number in sorted(found)]


def until_steps(out: Path, process: subprocess.Popen, count: int = 1) -> None:
    """Returns when a run has written so many new lines of its record."""
    path = out / "timings.jsonl"
    lines = lambda: path.read_text().count("\n") if path.exists() else 0  # noqa: E731
    before = lines()
    while lines() < before + count:
        assert process.poll() is None, process.communicate()[1][-800:]
        time.sleep(0.02)


def four_processes(folder: Path) -> str:
    """One is told to stop, one killed, one stopped for ever, one slow; the result is unbroken's."""
    whole, out = folder / "whole", folder / "out"
    with start_four(whole) as job:
        assert job.wait() == 0, job.stderr.read()[-800:]
    seen = []
    for what in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
        with start_four(out) as job:
            until_steps(out, job)
            os.kill(pids(job)[1], what)
            start = time.monotonic()
            _, errors = job.communicate(timeout=120)
            seen.append(f"{what.name} ends after {time.monotonic() - start:.0f} s")
            stopped = what == signal.SIGTERM
            assert (job.returncode == 0) == stopped, errors[-800:]
            assert stopped or "run the same command again" in errors.splitlines()[-1], errors[-800:]
    with start_four(out) as job:
        until_steps(out, job)
        for _ in range(8):  # half of the time it does nothing, which is not to be dead
            slow = pids(job)[2:3]
            for pid in slow:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(0.5)
            for pid in slow:
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.5)
        _, errors = job.communicate(timeout=300)
        assert job.returncode == 0, errors[-800:]
    assert trained(out) == trained(whole), "the result differs from the unbroken run's"
    return "; ".join([*seen, "a slow one is waited for", "bit-equal in the end"])


def signal_in_set_up(folder: Path) -> str:
    """SIGTERM while a training starts and compiles, without a compile cache."""
    times = []
    for wait in (3.0, 6.0, 10.0):
        cold = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        process = NAMED["decoder"].start(folder / "out", **cold)
        time.sleep(wait)
        if (folder / "out" / "timings.jsonl").exists():
            process.kill()
            process.communicate()
            break
        start = time.monotonic()
        process.terminate()
        process.communicate(timeout=60)
        times.append(time.monotonic() - start)
        assert process.returncode in (143, -signal.SIGTERM), process.returncode
    assert times and max(times) < 5, times
    return f"ended within {max(times):.1f} s, {len(times)} times"


def read_only_disk(folder: Path) -> str:
    """Every command on a folder that cannot be written."""
    with mounted(folder / "disk", "size=1m", read_only=True) as disk:
        for job in JOBS:
            if job.name not in ("clip", "prior_ar", "decoder", "upsampler_256"):
                one_line(job.run(disk / "out"), "Read-only file system")
    return "each command ends in one line, exit code 2"


def read_only_home(folder: Path) -> str:
    """No place for a compile cache or records."""
    home = {"HOME": "/proc", "XDG_CACHE_HOME": "/proc/none", "JAX_COMPILATION_CACHE_DIR": ""}
    check(NAMED["export"].run(folder / "out", **home))
    args = ["sample", "the sun", "--model", prepared() / "toy", "--out", folder / "images"]
    sampled = check(Job("sample", lambda out: args, trained).run(folder / "images", **home))
    assert (folder / "images" / "grid.png").exists(), sampled.stderr
    return "sample and export work"


def full_disk(folder: Path) -> str:
    """Every command on a disk that is too small."""
    said = []
    rooms = {"embed": "300k", "ingest": "600k", "export": "60k", "sample": "100k"}
    rooms |= {"prior_diffusion": "700k", "eval": "8k"}
    for name, room in rooms.items():
        with mounted(folder / name, f"size={room}") as disk:
            done = NAMED[name].run(disk / "out")
            line = one_line(done, "No space left on device")
            left = [p.name for p in disk.iterdir() if p.name.endswith((".part", ".lock"))]
            assert not left, f"{name}: left {left}"
            said.append(name)
            if name == "prior_diffusion":
                assert "run the same command again" in line or "cannot write" in line, line
    return f"one line, exit code 2, nothing left: {', '.join(said)}"


@contextmanager
def mounted(place: Path, options: str, *, read_only: bool = False) -> Iterator[Path]:
    """Mounts a small file system; only root may."""
    if os.geteuid():
        raise AssertionError("not tried: only root may mount a small file system")
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def two_at_once(folder: Path) -> str:
    """The same command twice at once: one does it, the other is refused or comes after."""
    seen = []
    for job in JOBS:
        if job.name in ("prior_ar", "decoder", "upsampler_256"):
            continue  # as the other stages
        out, whole = folder / job.name, folder / f"{job.name}-whole"
        args = lambda out, job=job: [a for a in job.args(out) if a != "--overwrite"]  # noqa: E731
        twice = Job(job.name, args, job.result)
        check(twice.run(whole))
        both = [twice.start(out), twice.start(out)]
        ended = []
        for process in both:
            said, errors = process.communicate()
            ended.append(subprocess.CompletedProcess(job.name, process.returncode, said, errors))
        good = [done for done in ended if done.returncode == 0]
        assert good, f"{job.name}: {[done.stderr[-300:] for done in ended]}"
        for done in ended:
            if done not in good:
                line = one_line(done, str(out))
                assert "in use by" in line or "exists" in line, line
        assert job.result(out) == job.result(whole), f"{job.name}: the result differs"
        seen.append(f"{job.name} {len(good)} of 2")
    return "done, of two: " + ", ".join(seen)


def clock_jumps(folder: Path) -> str:
    """Files from the future and from 1970, as after a clock has been set."""
    whole, out = folder / "whole", folder / "out"
    check(PRIOR.run(whole))
    for stamp in (time.time() + 10 * 365 * 86400, 0.0):
        process = PRIOR.start(out)
        until_steps(out, process)
        process.kill()
        process.communicate()
        for path in [out, *out.rglob("*")]:
            os.utime(path, (stamp, stamp))
    check(PRIOR.run(out))
    assert trained(out) == trained(whole), "the result differs from the unbroken run's"
    store, again = NAMED["embed"], folder / "store"
    check(store.run(again))
    for path in again.rglob("*"):
        os.utime(path, (0.0, 0.0))
    assert "0 of 20 shards written" in check(store.run(again)).stdout
    return "a training resumes bit-equal with files dated 2036 and 1970; a store is not made anew"


def shared_compile_cache(folder: Path) -> str:
    """Two processes fill one empty cache; one more has a cache with damaged entries."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    job = NAMED["sample"]
    both = [job.start(folder / name, **cache) for name in ("one", "two")]
    for process in both:
        said, errors = process.communicate()
        check(subprocess.CompletedProcess("sample", process.returncode, said, errors))
    assert job.result(folder / "one") == job.result(folder / "two"), "the images differ"
    entries = [p for p in (folder / "cache").iterdir() if p.name.endswith("-cache")]
    for entry in entries[::2]:
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    check(job.run(folder / "three", **cache))
    assert job.result(folder / "one") == job.result(folder / "three"), "the images differ"
    shutil.rmtree(folder / "cache")
    return f"equal images; {len(entries[::2])} of {len(entries)} entries cut in half: compiled anew"


SCENARIOS: dict[str, Callable[[Path], str]] = {
    "four_processes": four_processes,
    "signal_in_set_up": signal_in_set_up,
    "read_only_disk": read_only_disk,
    "read_only_home": read_only_home,
    "full_disk": full_disk,
    "two_at_once": two_at_once,
    "clock_jumps": clock_jumps,
    "shared_compile_cache": shared_compile_cache,
}
