"""Estimates of a training's cost before it runs: parameters, bytes, FLOPs, bounds on its time.

Everything comes from the traced step of the config itself; nothing is computed and no accelerator
is needed. A step's time has two lower bounds: arithmetic over the chips' peak rate, and memory
traffic (operands and results of matrix products, and the state) over their bandwidth. No program is
faster; real ones reach 30 to 60% of the first.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, Sharding
from jaxtyping import PyTree

from unclip_jax.checkpoint import bundle
from unclip_jax.core.chips import Topology
from unclip_jax.core.errors import UserError
from unclip_jax.core.flops import Work, work_of
from unclip_jax.core.trees import count_params
from unclip_jax.models.clip import ClipConfig
from unclip_jax.models.stages import (
    CLIP,
    StageSpec,
    spec_from_dict,
    spec_to_dict,
    stages_of,
)
from unclip_jax.train import resolve
from unclip_jax.train.distill import with_student
from unclip_jax.train.program import Program, make_program
from unclip_jax.train.resolve import Settings
from unclip_jax.train.sharding import AXES, mesh_sizes
from unclip_jax.train.throughput import with_remat

SHIPPED_CLIP = "emoji"
"""Bundle whose CLIP's sizes are assumed where a config leaves them open and names no CLIP."""

DAY = 86400.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The estimates; those that need a topology are None without one.

    Attributes:
        params: number of parameters.
        state_bytes: parameters, moments and EMA, on all chips together.
        flops_per_image: of training, without rematerialization (model FLOPs).
        flops_per_step: the same for the whole batch.
        hardware_flops_per_step: with what rematerialization computes again.
        mesh: (data, fsdp, tensor).
        state_bytes_per_chip: the largest share of a chip.
        step_seconds_bound: the larger of the two bounds.
        mfu_bound: model FLOPs at that bound over the peak.
        days: all steps at the bound.
    """

    stage: str
    params: int
    batch_size: int
    steps: int
    state_bytes: int
    flops_per_image: float
    flops_per_step: float
    hardware_flops_per_step: float
    chip: str | None = None
    chips: int | None = None
    mesh: tuple[int, int, int] | None = None
    state_bytes_per_chip: int | None = None
    hbm_limit_bytes: int | None = None
    compute_seconds: float | None = None
    memory_seconds: float | None = None
    step_seconds_bound: float | None = None
    mfu_bound: float | None = None
    days: float | None = None
    chip_hours: float | None = None


def make_plan(config: Mapping[str, Any], topology: Topology | None = None) -> Plan:
    """Plans the training of a config file's sections; needs neither the data set nor the CLIP.

    A config that leaves sizes to the CLIP takes them from `config.clip` or, where that names none,
    from the shipped bundle's CLIP.
    """
    program, _ = planned_program(config)
    return plan_program(program, topology)


def training_flops(spec: StageSpec, record: Mapping[str, Any]) -> float:
    """Returns the model FLOPs of a finished training.

    Args:
        record: of the stage in a bundle's provenance: its data, optim and train sections, steps.
    """
    model = {key: value for key, value in spec_to_dict(spec).items() if value is not None}
    data = {key: value for key, value in record["data"].items() if key != "fingerprint"}
    config = {**model, "seed": 0, "data": data, "optim": record["optim"], "eval": {}}
    program, _ = planned_program({**config, "train": {**record["train"], "accumulation": 1}})
    batch_size = program.settings.train.batch_size
    return step_work(program, 1, "none").flops * batch_size * record["steps"]


def plan_program(program: Program, topology: Topology | None = None) -> Plan:
    """Plans a run whose sizes are known."""
    train = program.settings.train
    # Examples do the same work each; only CLIP's loss couples them, and is counted on all of them.
    rows = train.batch_size if program.spec.row.task == "contrastive" else 1
    copies = train.batch_size // rows
    step = step_work(program, rows, "none").flops * copies
    hardware = step_work(program, rows)
    plan = Plan(
        stage=program.spec.stage,
        params=count_params(program.state.params),
        batch_size=train.batch_size,
        steps=train.steps,
        state_bytes=tree_bytes(program.state),
        flops_per_image=step / train.batch_size,
        flops_per_step=step,
        hardware_flops_per_step=hardware.flops * copies,
    )
    return plan if topology is None else _on_topology(plan, program, topology)


def _on_topology(plan: Plan, program: Program, topology: Topology) -> Plan:
    """Adds the estimates that depend on the chips."""
    chip, chips, train = topology.chip, topology.chips, program.settings.train
    sizes = mesh_sizes(train.mesh, chips)
    data, fsdp, tensor = sizes
    shards = data * fsdp
    if plan.batch_size % (shards * train.accumulation):
        raise UserError(
            f"config.train.batch_size={plan.batch_size} must be a multiple of {shards} chips that "
            f"share the batch x {train.accumulation} micro-batches"
        )
    share = sharded_bytes(program.state, program.state_shardings(AbstractMesh(sizes, AXES)))
    local = step_work(program, plan.batch_size // shards)
    # Besides the products: the update reads and writes the state, gradients are written and read.
    traffic = local.bytes / tensor + 2 * share + 2 * plan.params * 4 / (fsdp * tensor)
    compute = plan.hardware_flops_per_step / chips / chip.flops
    memory = traffic / chip.hbm_rate
    bound = max(compute, memory)
    days = bound * plan.steps / DAY
    return dataclasses.replace(
        plan,
        chip=chip.name,
        chips=chips,
        mesh=sizes,
        state_bytes_per_chip=share,
        hbm_limit_bytes=chip.hbm_bytes,
        compute_seconds=compute,
        memory_seconds=memory,
        step_seconds_bound=bound,
        mfu_bound=plan.flops_per_step / chips / chip.flops / bound,
        days=days,
        chip_hours=days * 24 * chips,
    )


def step_work(program: Program, batch_size: int, remat: str | None = None) -> Work:
    """Counts the work of one step at a batch size.

    Args:
        remat: replaces the config's rematerialization.
    """
    spec, train = program.spec, program.settings.train
    if remat is not None:
        spec = with_remat(spec, remat)
    group = math.gcd(batch_size, train.sam_group)
    parts = 1 if batch_size % train.accumulation else train.accumulation
    train = dataclasses.replace(train, batch_size=batch_size, sam_group=group, accumulation=parts)
    step = program.step(spec, train)
    return work_of(step, program.state, program.constants, program.batch(batch_size))


def planned_program(
    config: Mapping[str, Any], clip: Mapping[str, Any] | None = None
) -> tuple[Program, str | None]:
    """Returns the program of a config's run, and the shipped bundle whose CLIP's sizes it assumes.

    Sizes of the CLIP are those of `config.clip` where it names a bundle. A config that leaves them
    open and names none takes those of the shipped bundle; otherwise the second result is None.

    Args:
        clip: config of the CLIP, where there is no bundle of it yet.
    """
    config = with_student(config, needs_teacher=False)
    settings = resolve.read_settings(config, needs_clip=False)
    clip_cfg = _bundle_clip(settings.clip) if clip is None else _config_clip(clip)
    spec, assumed = _make_spec(config, settings, clip_cfg), None
    if spec.open_fields and clip_cfg is None and spec.row.needs_clip:
        assumed, clip_cfg = SHIPPED_CLIP, _bundle_clip(SHIPPED_CLIP)
        spec = _make_spec(config, settings, clip_cfg)
    return make_program(settings, spec, clip_cfg), assumed


def _make_spec(config: Mapping[str, Any], settings: Settings, clip: ClipConfig | None) -> StageSpec:
    vocabulary = settings.data.vocab_size if clip is None else clip.text.vocab_size
    return resolve.make_spec(resolve.resolve_model(config, clip, vocabulary))


def _config_clip(config: Mapping[str, Any]) -> ClipConfig:
    """Returns the CLIP of a config, with the vocabulary that its run would train."""
    if config["stage"] not in stages_of("clip"):
        raise UserError(f"--config.clip is a config of stage {config['stage']!r}, not of a CLIP")
    vocabulary = config["data"].get("vocab_size")
    return resolve.make_spec(resolve.resolve_model(config, None, vocabulary)).model


def _bundle_clip(name: str) -> ClipConfig | None:
    """Returns the CLIP of a bundle; None where no bundle is named."""
    if not name or name == resolve.RANDOM:
        return None
    stages = bundle.read_manifest(bundle.resolve(name)).stages
    if CLIP not in stages:
        raise UserError(f"{name} has no stage {CLIP!r}")
    return spec_from_dict(stages[CLIP].spec).model


def tree_bytes(tree: PyTree) -> int:
    """Returns the bytes of a tree of (abstract) arrays."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def sharded_bytes(tree: PyTree, shardings: PyTree[Sharding]) -> int:
    """Returns the bytes of one device's shards of a tree."""
    share: Callable[[Any, Any], int] = lambda leaf, sharding: (  # noqa: E731
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    )
    return sum(jax.tree.leaves(jax.tree.map(share, tree, shardings)))
