"""Compiles a planned step for TPUs ahead of time, without one: memory, communication, time.

libtpu compiles for a topology that need not exist here. The step is that of a real run: the same
function, mesh, shardings and donation. Results are cached on disk by a digest of the program, so
that the same program is compiled once.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, Sharding
from jaxtyping import PyTree

from unclip_jax.core.chips import Topology
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import cache_folder, read_mapping, whole_file
from unclip_jax.plan.estimate import Plan
from unclip_jax.plan.hlo import Cost, cost_of
from unclip_jax.train.program import Program
from unclip_jax.train.sharding import batch_sharding, make_mesh, run_context
from unclip_jax.train.step import STEP_OPTIONS, jit_step

FORMAT = 1  # of the cached results; another number invalidates them all

EFFORT = ("exec_time_optimization_effort", "memory_fitting_effort")
"""XLA's options of how hard it tries, from -1 (least) to 1; 0 is what a run gets."""

ENVIRONMENT = {
    "TPU_WORKER_HOSTNAMES": "localhost",  # else it asks the cloud's metadata for its neighbors
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",  # nothing is opened: two compilations do not collide
}

WIRE = {"all-reduce": 2.0}
"""How often an array crosses a chip's links, by kind; 1 for the rest (rings, many devices)."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler reports about one step.

    Attributes:
        devices: JAX's, over all chips.
        hbm_bytes_per_chip: peak of arguments, outputs and temporaries, aliased bytes counted once.
        output_bytes: of a device, the donated state included; `aliased_bytes` of them are the
            arguments' own memory.
        compiled_flops: of a device's products and convolutions in the optimized program; unlike
            the plan's FLOPs without those with padding.
        collectives: kind -> {"count", "bytes"} of a device and step, loops counted as they run.
        collective_seconds: those bytes over the chip's links at full rate; partly hidden behind
            arithmetic in reality.
        reported_seconds: the compiler's estimate, in which every loop runs once.
        loop_factor: estimated cycles with loops counted as they run, over those without.
        step_seconds: reported_seconds x loop_factor.
        mfu: model FLOPs over step_seconds and the chips' peak.
        hfu: the same with what rematerialization computes again.
    """

    devices: int
    hbm_bytes_per_chip: int
    argument_bytes: int
    temporary_bytes: int
    output_bytes: int
    aliased_bytes: int
    code_bytes: int
    compiled_flops: int
    collectives: dict[str, dict[str, int]]
    collective_seconds: float
    reported_seconds: float | None
    loop_factor: float
    unknown_loops: int
    step_seconds: float | None
    mfu: float | None
    hfu: float | None
    compile_seconds: float
    compiler_options: dict[str, float]
    versions: dict[str, str]


class DoesNotFitError(UserError):
    """The step takes more memory than a chip has."""


def compile_plan(
    program: Program, plan: Plan, topology: Topology, *, effort: float = -1.0
) -> Compiled:
    """Compiles the program's step for a topology, or returns the cached result.

    Args:
        plan: of the same program and topology: FLOPs and chips are taken from it.
        effort: of the compiler, -1 to 1; the least takes a fraction of the time.

    Raises:
        DoesNotFitError: a chip's memory is too small.
    """
    devices = topology_devices(topology)
    mesh = make_mesh(program.settings.train.mesh, devices)
    options = {**STEP_OPTIONS["tpu"], **dict.fromkeys(EFFORT, float(effort))}
    lowered = lower_step(program, mesh)
    path = _cache_path(lowered.as_text(), topology, options)
    if not path.exists():
        try:
            measured = _measure(lowered, options, topology)
        except DoesNotFitError as error:
            measured = {"does_not_fit": str(error)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    found = read_mapping(path)
    if "does_not_fit" in found:
        raise DoesNotFitError(found["does_not_fit"])
    return _read(found, plan, topology, len(devices))


def missing_compiler(topology: Topology) -> str | None:
    """Returns why this machine has no compiler for the chips, in one line; None if it has."""
    if not topology.chip.is_tpu:
        return (
            f"{topology.name} is compiled on a machine with such a card only; here leave --compile "
            "out, or pass --compiles 0 with --search"
        )
    if importlib.util.find_spec("libtpu") is None:
        return "compiling needs libtpu: run pip install '.[plan]' in a checkout"
    return None


def require_compiler(topology: Topology) -> None:
    """Raises UserError unless this machine has a compiler for the chips."""
    missing = missing_compiler(topology)
    if missing is not None:
        raise UserError(missing)


def topology_devices(topology: Topology) -> list[Any]:
    """Returns the devices of a topology as libtpu describes them.

    Raises:
        UserError: it is not of TPUs, there is no libtpu, or libtpu does not know it.
    """
    require_compiler(topology)
    about = ENVIRONMENT | {"TPU_ACCELERATOR_TYPE": f"{topology.chip.name}-{topology.chips}"}
    for key, value in about.items():
        if os.environ.get(key, "WARNING").startswith("WARNING"):  # JAX's own guess outside a cloud
            os.environ[key] = value
    from jax.experimental import topologies

    try:
        # Otherwise a v4 chip's two cores are devices of their own, unlike in any run.
        form = {"chip_config_name": "megacore"} if topology.chip.name == "v4" else {}
        found = topologies.get_topology_desc(topology.name, "tpu", **form)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"libtpu does not know topology {topology.name}: {reason}") from error
    return list(found.devices)


def lower_step(program: Program, mesh: Mesh) -> jax.stages.Lowered:
    """Traces the step at abstract arguments that are sharded over the mesh as a run's are."""
    train = program.settings.train
    shardings = program.state_shardings(mesh)
    step = jit_step(program.step(), shardings, mesh)
    arguments = (
        sharded_like(program.state, shardings),
        sharded_like(program.constants, program.constant_shardings(mesh)),
        abstract_batch(program, train.batch_size, mesh),
    )
    # Nothing can be computed in this context: its devices do not exist.
    with run_context(mesh, train.dtype, program.rules):
        return step.lower(*arguments)


def abstract_batch(program: Program, rows: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a batch that is sharded over a mesh."""
    batch = program.batch(rows)
    return sharded_like(batch, dict.fromkeys(batch, batch_sharding(mesh)))


def sharded_like(tree: PyTree, shardings: PyTree[Sharding]) -> PyTree[jax.ShapeDtypeStruct]:
    """Returns the shapes of a tree of arrays with their shardings."""
    shard = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)  # noqa: E731
    return jax.tree.map(shard, tree, shardings)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}


def _cache_path(program: str, topology: Topology, options: Mapping[str, float]) -> Path:
    """Returns the file of a program's result, named by a digest of all that it depends on."""
    about = {"format": FORMAT, "topology": topology.name, **options, **_versions()}
    digest = hashlib.sha256(program.encode())
    digest.update(json.dumps(about, sort_keys=True).encode())
    return cache_folder() / "plan" / f"{digest.hexdigest()[:32]}.json"


def _measure(
    lowered: jax.stages.Lowered, options: Mapping[str, float], topology: Topology
) -> dict[str, Any]:
    """Compiles, and returns the measurements that do not depend on the plan."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, _no_compile_cache():
        try:
            compiled = lowered.compile(compiler_options={**options, "xla_dump_to": folder})
        except jax.errors.JaxRuntimeError as error:
            raise _one_line(error, topology) from error
        cost = _dumped_cost(Path(folder))
    memory, analysis = compiled.memory_analysis(), compiled.cost_analysis() or {}
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "compiled_flops": cost.flops,
        "collectives": {k: dataclasses.asdict(v) for k, v in cost.collectives.items()},
        "reported_seconds": analysis.get("optimal_seconds"),
        "loop_factor": cost.cycles / cost.cycles_once if cost.cycles_once else 1.0,
        "unknown_loops": cost.unknown_loops,
        "compile_seconds": time.monotonic() - start,
        "compiler_options": dict(options),
        "versions": _versions(),
    }


@contextlib.contextmanager
def _no_compile_cache() -> Iterator[None]:
    """Disables JAX's compilation cache: a program from there is not dumped as text."""
    from jax.experimental.compilation_cache import compilation_cache

    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _dumped_cost(folder: Path) -> Cost:
    """Counts the program that the compiler dumped; the executable does not always have a text."""
    for ending in ("after_codegen.txt", "after_optimizations.txt"):
        files = sorted(folder.glob(f"*jit_step*{ending}"))
        if files:
            return cost_of(files[-1].read_text(encoding="utf-8"))
    raise UserError("this libtpu dumps no program text; --compile needs another version of it")


def _one_line(error: jax.errors.JaxRuntimeError, topology: Topology) -> UserError:
    """Returns the compiler's error in one line: what is too large, or its first line."""
    text = str(error)
    used = re.search(r"Used ([\d.]+\w+) of ([\d.]+\w+) hbm", text)
    if used:
        return DoesNotFitError(
            f"the step does not fit a chip of {topology.name}: it takes {used[1]} of {used[2]}; "
            "raise config.train.accumulation or mesh.fsdp, or rematerialize more"
        )
    return UserError(f"libtpu cannot compile the step for {topology.name}: {text.splitlines()[0]}")


def _read(measured: Mapping[str, Any], plan: Plan, topology: Topology, devices: int) -> Compiled:
    """Adds what follows from the plan's FLOPs and the chip's rates."""
    chip, per_chip = topology.chip, devices // topology.chips
    peak = measured["argument_bytes"] + measured["temporary_bytes"]
    peak += measured["output_bytes"] - measured["aliased_bytes"]
    sent = sum(WIRE.get(k, 1.0) * one["bytes"] for k, one in measured["collectives"].items())
    reported, seconds = measured["reported_seconds"], None
    if reported is not None and reported > 0:  # a number below 0 is not an estimate
        seconds = reported * measured["loop_factor"]
    rate = None if seconds is None else seconds * topology.chips * chip.flops
    return Compiled(
        devices=devices,
        hbm_bytes_per_chip=peak * per_chip,
        collective_seconds=sent * per_chip / chip.link_rate,
        step_seconds=seconds,
        mfu=None if rate is None else plan.flops_per_step / rate,
        hfu=None if rate is None else plan.hardware_flops_per_step / rate,
        **measured,
    )
