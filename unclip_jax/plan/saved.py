"""Compiles the programs of a run ahead of it, into a folder that the run then finds them in.

The folder is JAX's persistent cache of compiled programs: `unclip train` with
JAX_COMPILATION_CACHE_DIR set to it looks every program up there before it compiles. JAX's key of a
program holds its text, the compiler's options, versions and flags, the kind of the devices and
their topology; nothing else of the folder is read, and no entry is unpickled.
"""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from unclip_jax.core.compilations import counted_compilations
from unclip_jax.core.errors import UserError
from unclip_jax.plan.compile import abstract_batch, lower_step, sharded_like
from unclip_jax.train.program import Program
from unclip_jax.train.sharding import check_batch_size, make_mesh, run_context


@dataclasses.dataclass(frozen=True)
class Saved:
    """One program.

    Attributes:
        seconds: that compiling took, or finding it in the folder.
        was_there: whether the folder had it before; a compiler without its chips cannot tell.
        memory_bytes: peak on a device; None where the compiler does not say.
    """

    name: str
    seconds: float
    was_there: bool
    memory_bytes: int | None


def save_programs(
    program: Program,
    devices: list[Any],
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
) -> list[Saved]:
    """Compiles the programs that a run starts with for devices, and keeps them in a folder.

    Args:
        devices: of the run; they need not exist.
        say: takes a line before each compilation.
    """
    train, cfg = program.settings.train, program.settings.eval
    mesh = make_mesh(train.mesh, devices)
    check_batch_size(train.batch_size, mesh, "config.train.batch_size")
    if cfg.batches:
        check_batch_size(cfg.batch_size, mesh, "config.eval.batch_size")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
    lowered = {"training step": lambda: lower_step(program, mesh)}
    if cfg.batches:
        lowered["evaluation"] = lambda: _lower_evaluation(program, mesh)
    lowered["initial state"] = lambda: _lower_init(program, mesh)
    with _cache_in(folder):
        found = []
        for name, lower in lowered.items():
            say(f"compiling the {name}")
            found.append(_compile(name, lower()))
    return found


def _compile(name: str, lowered: jax.stages.Lowered) -> Saved:
    start = time.monotonic()
    with counted_compilations() as counts, warnings.catch_warnings():
        # A compiler without its chips writes entries that it cannot read again.
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache")
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            raise UserError(f"cannot compile the {name}: {str(error).splitlines()[0]}") from error
    memory, peak = compiled.memory_analysis(), None
    if memory is not None:
        peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Saved(name, time.monotonic() - start, not counts.compiled, peak)


def _lower_evaluation(program: Program, mesh: Mesh) -> jax.stages.Lowered:
    """Traces the evaluation at the arguments that a run gives it."""
    train, cfg = program.settings.train, program.settings.eval
    arguments = (
        sharded_like(program.state.ema_params, program.state_shardings(mesh).ema_params),
        sharded_like(program.constants, program.constant_shardings(mesh)),
        abstract_batch(program, cfg.batch_size, mesh),
    )
    with run_context(mesh, train.dtype, program.rules):
        return program.jit_evaluation(mesh).lower(*arguments, 0)


def _lower_init(program: Program, mesh: Mesh) -> jax.stages.Lowered:
    platform = mesh.devices.flat[0].platform
    init = program.jit_init(program.state_shardings(mesh), platform)
    with run_context(mesh, program.settings.train.dtype, program.rules):
        return init.lower()


@contextlib.contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Makes a folder JAX's cache of compiled programs, and keeps every program."""
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        "jax_compilation_cache_dir": str(folder.absolute()),
        "jax_enable_compilation_cache": True,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
