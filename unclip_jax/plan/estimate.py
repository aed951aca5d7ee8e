"""What a training would take, before it is paid for: parameters, bytes, arithmetic, time bounds.

Everything comes from the traced step of the config itself; nothing is computed and no accelerator
is needed. Two bounds on a step's time: arithmetic over the chips' peak rate, and memory traffic
(operands and results of matrix products, and the state) over their bandwidth. No program is faster;
real ones reach 30 to 60% of the first.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh

from unclip_jax.checkpoint import bundle
from unclip_jax.core.chips import Topology
from unclip_jax.core.errors import UserError
from unclip_jax.core.flops import work_of
from unclip_jax.core.trees import count_params
from unclip_jax.core.types import TextFeatures
from unclip_jax.data.bsr import FACTOR
from unclip_jax.models.clip import ClipConfig, text_features
from unclip_jax.models.stages import (
    CLIP,
    StageSpec,
    abstract_boxed,
    abstract_params,
    clip_spec,
    make_module,
    spec_from_dict,
    spec_to_dict,
    stages_of,
    unboxed,
)
from unclip_jax.train import resolve
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.frozen import FrozenClip, params_of
from unclip_jax.train.optim import make_optimizer
from unclip_jax.train.sharding import AXES, merge_rules, mesh_sizes
from unclip_jax.train.state import make_state, state_shardings
from unclip_jax.train.step import Step, make_train_step
from unclip_jax.train.tasks.clip import Task
from unclip_jax.train.tasks.codes import make_task
from unclip_jax.train.throughput import with_remat

SHIPPED_CLIP = "emoji"
"""Bundle whose CLIP gives the sizes that a config leaves open and no --config.clip settles."""

DAY = 86400.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The figures; those that need a topology are None without one.

    Attributes:
        params: numbers that are trained or shipped.
        state_bytes: parameters, moments and moving average, on all chips together.
        flops_per_image: of training, without rematerialisation (model FLOPs).
        flops_per_step: the same for the whole batch.
        hardware_flops_per_step: with what rematerialisation computes again.
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
    """Plans the training of a config file's sections; no data set and no CLIP need be there.

    A config whose sizes are those "of the CLIP" (0) takes them from `config.clip` or, where that
    names none, from the shipped bundle's CLIP.
    """
    return plan_run(PlannedRun(config), topology)


def training_flops(spec: StageSpec, record: Mapping[str, Any]) -> float:
    """Returns the model FLOPs of a finished training.

    Args:
        record: of the stage in a bundle's provenance: its data, optim and train sections, steps.
    """
    model = {key: value for key, value in spec_to_dict(spec).items() if value is not None}
    data = {key: value for key, value in record["data"].items() if key != "fingerprint"}
    config = {**model, "seed": 0, "data": data, "optim": record["optim"], "eval": {}}
    run = PlannedRun({**config, "train": {**record["train"], "accumulation": 1}})
    return run.work(1, "none").flops * run.settings.train.batch_size * record["steps"]


def plan_run(run: "PlannedRun", topology: Topology | None = None) -> Plan:
    """Plans a run whose sizes are settled."""
    # Examples do the same work each; only CLIP's loss couples them, and is counted on all of them.
    rows = run.settings.train.batch_size if run.spec.row.task == "contrastive" else 1
    copies = run.settings.train.batch_size // rows
    step = run.work(rows, "none").flops * copies
    hardware = run.work(rows, None)
    train = run.settings.train
    plan = Plan(
        stage=run.spec.stage,
        params=count_params(run.params),
        batch_size=train.batch_size,
        steps=train.steps,
        state_bytes=tree_bytes(run.state),
        flops_per_image=step / train.batch_size,
        flops_per_step=step,
        hardware_flops_per_step=hardware.flops * copies,
    )
    return plan if topology is None else _on_topology(plan, run, topology)


def _on_topology(plan: Plan, run: "PlannedRun", topology: Topology) -> Plan:
    """Adds what depends on the chips."""
    chip, chips = topology.chip, topology.chips
    sizes = mesh_sizes(run.settings.train.mesh, chips)
    data, fsdp, tensor = sizes
    shards = data * fsdp
    if plan.batch_size % (shards * run.settings.train.accumulation):
        raise UserError(
            f"config.train.batch_size={plan.batch_size} must be a multiple of {shards} chips that "
            f"share the batch x {run.settings.train.accumulation} micro-batches"
        )
    mesh = AbstractMesh(sizes, AXES)
    shardings = state_shardings(run.boxed, run.tx, run.metrics, mesh, run.rules)
    share = sharded_bytes(run.state, shardings)
    local = run.work(plan.batch_size // shards, None)
    # Beside the products: the update reads and writes the state, gradients are written and read.
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


class PlannedRun:
    """A config as a run would build it, with shapes in place of arrays."""

    def __init__(self, config: Mapping[str, Any], clip: Mapping[str, Any] | None = None):
        """Settles sizes from the config, and from `config.clip` where it names a bundle.

        `assumed_clip` names the shipped bundle whose CLIP's sizes were taken, None if none was.

        Args:
            clip: config of the CLIP, where there is no bundle of it yet.
        """
        self.settings = resolve.read_settings(config, needs_clip=False)
        self.clip_cfg = _clip_config(self.settings.clip) if clip is None else _config_of(clip)
        self.assumed_clip = None
        self.spec = self._make_spec(config)
        self.boxed = abstract_boxed(self.spec)
        self.params = unboxed(self.boxed)
        self.rules = merge_rules(self.settings.train.sharding_rules)
        steps = self.settings.train.steps
        self.tx = make_optimizer(self.settings.optim, self.params, self.spec.fitted_names, steps)
        self.metrics = len(self.task(self.spec).metric_names) + 1
        self.state = self._state()

    def _make_spec(self, config: Mapping[str, Any]) -> StageSpec:
        vocabulary = self.settings.vocab_size
        if self.clip_cfg is not None:
            vocabulary = self.clip_cfg.text.vocab_size
        resolved = resolve.resolve_model(config, self.clip_cfg, vocabulary)
        spec = resolve.make_spec(resolved)
        if not spec.open_fields or self.clip_cfg is not None or not spec.row.needs_clip:
            return spec
        self.assumed_clip = SHIPPED_CLIP
        self.clip_cfg = _clip_config(SHIPPED_CLIP)
        return self._make_spec(config)

    def task(self, spec: StageSpec, train: TrainConfig | None = None) -> Task:
        """Returns the stage's task, with other settings where a count wants them."""
        train = train or self.settings.train
        module = make_module(spec, jnp.dtype(train.dtype))
        return make_task(spec, module, train, self._clip())

    def _clip(self) -> FrozenClip | None:
        if self.clip_cfg is None:
            return None
        module = make_module(clip_spec(self.clip_cfg), jnp.dtype(self.settings.train.dtype))
        return FrozenClip(module, {}, None)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Which encoders of the frozen CLIP the step runs; else the batch brings its features."""
        return () if self.clip_cfg is None else resolve.encoders(self.settings, self.spec)

    def clip_params(self, tree: Any) -> Any:
        """Returns the part of a tree like CLIP's parameters that the step is given."""
        return params_of(tree, self.encoders)

    def _state(self) -> Any:
        return jax.eval_shape(lambda p: make_state(p, self.tx, self.metrics), self.params)

    def work(self, batch_size: int, remat: str | None) -> Any:
        """Counts the work of one step at a batch size; `remat` replaces the config's."""
        spec = self.spec
        if remat is not None:
            spec = with_remat(spec, remat)
        train = self.settings.train
        group = math.gcd(batch_size, train.sam_group)
        parts = 1 if batch_size % train.accumulation else train.accumulation
        train = dataclasses.replace(
            train, batch_size=batch_size, sam_group=group, accumulation=parts
        )
        step = self.step(spec, train)
        return work_of(step, self.state, self.frozen(), self.batch(batch_size))

    def step(self, spec: StageSpec, train: TrainConfig) -> Step:
        """Returns the training step, with another spec or other settings where a count wants it."""
        optim, seed = self.settings.optim, self.settings.seed
        return make_train_step(self.task(spec, train), self.tx, train, optim, seed)

    def frozen(self) -> dict[str, Any]:
        """Returns the step's constants as shapes."""
        if not self.spec.row.needs_clip:
            return {}
        frozen: dict[str, Any] = {"empty": self._features(1)}
        if self.encoders:
            frozen["clip"] = self.clip_params(abstract_params(clip_spec(self.clip_cfg)))
        return frozen

    def batch(self, rows: int) -> dict[str, Any]:
        """Returns a batch as shapes: what of it the task reads."""
        data = self.settings.data
        side, clip_side = resolve.image_sizes(self.settings, self.clip_cfg)
        side = data.window or side
        values: dict[str, Any] = {}
        if not resolve.reads_store(self.settings):
            values["image"] = _shape((rows, side, side, 3), np.uint8)
        if clip_side is not None:
            values["clip_image"] = _shape((rows, clip_side, clip_side, 3), np.uint8)
        if data.degrade != "none":
            values["low_res"] = _shape((rows, side // FACTOR, side // FACTOR, 3), np.uint8)
        if self.spec.row.kind == "clip":
            values["tokens"] = _shape((rows, self.spec.model.text.context), np.int32)
        elif self.spec.row.needs_clip:
            text = self._features(rows)
            values |= {"tokens": text.clip_tokens, "mask": text.text_mask}
            values |= {"own_tokens": text.tokens}
            if "image" not in self.encoders:
                values["image_emb"] = _shape((rows, self.spec.model.image_dim), np.float32)
            if "text" not in self.encoders:
                values |= {"text_emb": text.text_emb, "text_states": text.text_states}
        names = self.task(self.spec).batch_keys
        return {k: v for k, v in values.items() if k in names and v is not None}

    def _features(self, rows: int) -> TextFeatures:
        """Returns captions as a stage gets them, as shapes."""
        own = self.spec.model.own_context
        own_tokens = None if own is None else _shape((rows, own), np.int32)
        if "text" in self.encoders:
            context = self.clip_cfg.text.context
            tokens = _shape((rows, context), np.int32), _shape((rows, context), bool)
            params = self.clip_params(abstract_params(clip_spec(self.clip_cfg)))
            encode = functools.partial(text_features, self._clip().module)
            return jax.eval_shape(encode, params, *tokens).replace(tokens=own_tokens)
        model = self.spec.model
        context = (self.clip_cfg or model).clip_context
        states = None
        if model.reads_clip_states:
            states = _shape((rows, context, model.text_dim), np.float32)
        return TextFeatures(
            text_emb=_shape((rows, model.image_dim), np.float32),
            text_states=states,
            text_mask=_shape((rows, context), bool),
            clip_tokens=_shape((rows, context), np.int32),
            tokens=own_tokens,
        )


def _config_of(clip: Mapping[str, Any]) -> ClipConfig:
    """Returns the CLIP of a config file, with the vocabulary that its run would train."""
    if clip["stage"] not in stages_of("clip"):
        raise UserError(f"--config.clip is a config of stage {clip['stage']!r}, not of a CLIP")
    vocabulary = clip["data"].get("vocab_size", 0)
    return resolve.make_spec(resolve.resolve_model(clip, None, vocabulary)).model


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def tree_bytes(tree: Any) -> int:
    """Returns the bytes of a tree of (abstract) arrays."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def sharded_bytes(tree: Any, shardings: Any) -> int:
    """Returns the bytes that one device holds of a sharded tree."""
    share: Callable[[Any, Any], int] = lambda leaf, sharding: (  # noqa: E731
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    )
    return sum(jax.tree.leaves(jax.tree.map(share, tree, shardings)))


def _clip_config(name: str) -> ClipConfig | None:
    """Reads the config of a bundle's CLIP; None where no bundle is named."""
    if not name or name == resolve.RANDOM:
        return None
    stages = bundle.read_manifest(bundle.resolve(name)).stages
    if CLIP not in stages:
        raise UserError(f"{name} has no stage {CLIP!r}")
    return spec_from_dict(stages[CLIP].spec).model
