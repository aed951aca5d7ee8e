"""Several processes as one job: joining, agreeing, and leaving it in good order.

Processes find each other by explicit numbers, or by what the machine tells (TPU metadata, SLURM).
Process 0 alone writes what is written once. Whatever may differ between hosts, clocks and views of
a shared folder, is decided by process 0 and told to the others.

A process that dies, hangs or is stopped takes the others with it after HEARTBEAT seconds; whoever
launched them starts the same command again.
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
"""A coordinator of this name: ask TPU metadata, SLURM or Open MPI."""

HEARTBEAT = 20  # seconds of silence after which a process counts as dead; jax: 100
FAREWELL = 30  # seconds a process that is done waits for the others; jax: 300


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    preemption: bool = False,
    farewell: int = FAREWELL,
) -> Iterator[None]:
    """Is part of the job inside the block; with nothing given and nothing to find, by itself.

    Must be entered before the first computation. A process that fails inside leaves at once instead
    of waiting for the others to end too.

    Args:
        coordinator: HOST:PORT of process 0, or AUTO.
        preemption: whether jax takes SIGTERM over and makes of it a step at which all stop
            (`multihost_utils.reached_preemption_sync_point`).
        farewell: seconds that a process which is done waits for the others.
    """
    jax.config.update("jax_enable_preemption_service", preemption)
    given = (coordinator, num_processes, process_id)
    if coordinator == AUTO or (given == (None, None, None) and in_slurm_step(os.environ)):
        _initialize(farewell)
    elif None not in given:
        _check(*given)
        _initialize(farewell, *given)
    elif given != (None, None, None):
        raise UserError(
            "--coordinator, --num-processes and --process-id go together; "
            f"--coordinator {AUTO} asks the machine (TPU, SLURM, Open MPI) for all three"
        )
    elif jax.process_count() > 1:
        raise UserError(f"this is one of several hosts; pass --coordinator {AUTO} on all of them")
    try:
        yield
    except BaseException as error:
        if jax.process_count() > 1:
            # Registered last and so called first: jax's own would wait for all to end.
            atexit.register(_leave, 2 if isinstance(error, UserError) else 1)
        raise


def in_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several that a single srun has started."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or "1"
    return tasks.isdigit() and int(tasks) > 1


def is_process_zero() -> bool:
    """Whether this is process 0, which writes what is written once."""
    return jax.process_index() == 0


def broadcast_from_zero(value: bool) -> bool:
    """Returns process 0's value in every process; all must call it, at the same place."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


def run_on_process_zero(work: Callable[[], Any]) -> None:
    """Lets process 0 do something while the others wait; if it fails there, all fail."""
    done = False
    try:
        if is_process_zero():
            work()
            done = True
    finally:
        done = broadcast_from_zero(done)
    if not done:
        raise UserError("process 0 failed, and has said why")


@contextlib.contextmanager
def locked_by_first(folder: Path, what: str) -> Iterator[None]:
    """As `locks.locked`, held by process 0 for the whole job; refused there, all fail."""
    with contextlib.ExitStack() as stack:
        run_on_process_zero(lambda: stack.enter_context(locked(folder, what)))
        yield


def local_shard(items: Sequence[Any], number: Callable[[Any], int]) -> list[Any]:
    """Returns this process's share of a list: every item whose number is dealt to it."""
    count, index = jax.process_count(), jax.process_index()
    return [item for item in items if number(item) % count == index]


def wait_for_all(name: str) -> None:
    """Returns when every process has come here."""
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
    farewell: int,
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
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=farewell,
        )
    except ValueError as error:  # nothing found, or half of it
        raise UserError(
            f"--coordinator {AUTO}: neither TPU metadata nor SLURM nor Open MPI tells of a job "
            f"here ({error})"
        ) from error
    except RuntimeError as error:
        where = coordinator or "the job's coordinator"
        raise UserError(f"cannot join {where}: {str(error).splitlines()[0]}") from error
    wait_for_all("joined")  # all are here now, and Gloo gives a first meeting only 30 s


def _free_stdout() -> None:
    """Leaves stdout to this program's results: Gloo, which is C++, tells there whom it has met."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(results, "w", encoding=sys.stdout.encoding)


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
