"""Multi-process jobs: initialization, decisions by process 0, and orderly shutdown.

Processes find each other by explicit numbers or by the machine's metadata (TPU, SLURM). Files that
are written once are written by process 0. What may differ between hosts, such as clocks and views
of a shared folder, is decided by process 0 and broadcast.

If a process dies, hangs or is stopped, the others end after HEARTBEAT_TIMEOUT seconds; the launcher
starts the same command again.
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from unclip_jax.core.errors import UserError
from unclip_jax.core.locks import locked

AUTO = "auto"
"""Value of --coordinator: use TPU metadata, SLURM or Open MPI."""

HEARTBEAT_TIMEOUT = 20  # seconds without a heartbeat until a process counts as dead; jax: 100
SHUTDOWN_TIMEOUT = 30  # seconds that a finished process waits for the others; jax: 300


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    preemption: bool = False,
    shutdown_timeout: int = SHUTDOWN_TIMEOUT,
) -> Iterator[None]:
    """Joins the job for the duration of the block; a single process if there is no job.

    Must be entered before the first computation. A process that fails inside exits at once instead
    of waiting for the others.

    Args:
        coordinator: HOST:PORT of process 0, or AUTO.
        preemption: whether jax handles SIGTERM, so that all processes stop at the same step
            (`multihost_utils.reached_preemption_sync_point`).
        shutdown_timeout: seconds that a finished process waits for the others.

    Raises:
        UserError: the options are incomplete, or the job cannot be joined.
    """
    jax.config.update("jax_enable_preemption_service", preemption)
    given = (coordinator, num_processes, process_id)
    if coordinator == AUTO or (given == (None, None, None) and in_slurm_step(os.environ)):
        _initialize(shutdown_timeout)
    elif None not in given:
        _check(*given)
        _initialize(shutdown_timeout, *given)
    elif given != (None, None, None):
        raise UserError(
            "--coordinator, --num-processes and --process-id go together; "
            f"--coordinator {AUTO} finds all three (TPU, SLURM, Open MPI)"
        )
    elif jax.process_count() > 1:
        raise UserError(f"this is one of several hosts; pass --coordinator {AUTO} on all of them")
    try:
        yield
    except BaseException as error:
        if jax.process_count() > 1:
            # Registered last and so called first: jax's own handler would wait for all processes.
            atexit.register(_leave, 2 if isinstance(error, UserError) else 1)
        raise


def in_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several started by a single srun."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or "1"
    return tasks.isdigit() and int(tasks) > 1


def is_process_zero() -> bool:
    """Whether this is process 0."""
    return jax.process_index() == 0


def broadcast_from_zero(value: bool) -> bool:
    """Returns process 0's value in every process; a collective call."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


def run_on_process_zero(work: Callable[[], Any]) -> None:
    """Runs `work` on process 0 while the others wait; if it fails, all fail."""
    done = False
    try:
        if is_process_zero():
            work()
            done = True
    finally:
        done = broadcast_from_zero(done)
    if not done:
        raise UserError("process 0 failed; see its message")


@contextlib.contextmanager
def locked_by_zero(folder: Path, what: str) -> Iterator[None]:
    """Holds `locks.locked` on process 0 for the whole job; if it is refused, all fail."""
    with contextlib.ExitStack() as stack:
        run_on_process_zero(lambda: stack.enter_context(locked(folder, what)))
        yield


def local_shard(items: Sequence[Any], number: Callable[[Any], int]) -> list[Any]:
    """Returns this process's share of a list: items with number % process_count == index."""
    count, index = jax.process_count(), jax.process_index()
    return [item for item in items if number(item) % count == index]


def wait_for_all(name: str) -> None:
    """Returns when every process has called it with this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator {coordinator} must be HOST:PORT, or {AUTO}")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process-id {process_id} must lie in 0..{num_processes - 1} "
            f"(--num-processes {num_processes})"
        )


def _initialize(
    shutdown_timeout: int,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    _free_stdout()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=shutdown_timeout,
        )
    except ValueError as error:  # no or incomplete metadata
        raise UserError(
            f"--coordinator {AUTO}: no job found in TPU metadata, SLURM or Open MPI ({error}); "
            "pass HOST:PORT, --num-processes and --process-id"
        ) from error
    except RuntimeError as error:
        where = coordinator or "the coordinator of the job"
        raise UserError(f"cannot join {where}: {str(error).splitlines()[0]}") from error
    wait_for_all("joined")  # all have joined; Gloo's first collective times out after 30 s


def _free_stdout() -> None:
    """Reserves stdout for results: Gloo, which is C++, prints its connections there."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(results, "w", encoding=sys.stdout.encoding)


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
