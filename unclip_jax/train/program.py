"""What a run computes, before there are arrays: network, task, optimizer, step, and their shapes.

Training makes a program of its config and its CLIP, then fills it with arrays (setup.py). `unclip
plan` makes the same program of a config alone, and counts or compiles the step at the shapes.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh
from jax.typing import DTypeLike

from unclip_jax.core.prng import INIT_STEP, root_key, stage_key
from unclip_jax.core.types import Params, TextFeatures
from unclip_jax.data.bsr import FACTOR
from unclip_jax.models.clip import Clip, ClipConfig, text_features
from unclip_jax.models.stages import (
    StageSpec,
    abstract_boxed,
    abstract_params,
    clip_spec,
    init_variables,
    make_module,
    unboxed,
)
from unclip_jax.train import resolve
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.frozen_clip import params_of
from unclip_jax.train.optim import make_optimizer
from unclip_jax.train.resolve import Settings
from unclip_jax.train.sharding import Rules, merge_rules, param_shardings, replicated
from unclip_jax.train.state import TrainState, jit_init, make_state, state_shardings
from unclip_jax.train.step import (
    EvalStep,
    Step,
    logged_metrics,
    make_eval_step,
    make_train_step,
)
from unclip_jax.train.task import StepConstants, Task
from unclip_jax.train.tasks import make_task


@dataclasses.dataclass(frozen=True)
class Program:
    """A run's computation.

    Attributes:
        clip: module of the frozen CLIP; None for a stage without one, and for a plan of a stage
            whose batches bring all features.
        boxed: shapes of the parameters, boxed with their logical axes.
        rules: from logical axes to mesh axes.
    """

    settings: Settings
    spec: StageSpec
    clip: Clip | None
    module: nn.Module
    task: Task
    boxed: Params
    tx: optax.GradientTransformation
    rules: Rules

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the rows of the sums that a step logs."""
        return logged_metrics(self.task)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Encoders of the frozen CLIP that run in the step; other features come with the batch."""
        return () if self.clip is None else resolve.encoders(self.settings, self.spec)

    @functools.cached_property
    def state(self) -> TrainState:
        """Shapes of the training state."""
        make = lambda params: make_state(params, self.tx, len(self.metric_names))  # noqa: E731
        return jax.eval_shape(make, unboxed(self.boxed))

    def state_shardings(self, mesh: Mesh | AbstractMesh) -> TrainState:
        """Returns the shardings of the training state."""
        return state_shardings(self.boxed, self.tx, len(self.metric_names), mesh, self.rules)

    def jit_init(
        self, shardings: TrainState, platform: str | None = None
    ) -> Callable[[], TrainState]:
        """Returns the program that creates the state of step 0.

        Args:
            platform: of the shardings' devices, where these are not the process's own.
        """
        stage = stage_key(root_key(self.settings.seed), self.spec.row.key_id)
        key = jax.random.fold_in(stage, INIT_STEP)
        init = functools.partial(init_variables, self.spec, self.module, key)
        return jit_init(init, self.tx, len(self.metric_names), shardings, platform)

    def jit_evaluation(self, mesh: Mesh) -> EvalStep:
        """Returns the compiled evaluation of a held-out batch."""
        settings = self.settings
        step = make_eval_step(self.task, settings.eval.batch_size, settings.seed)
        return jax.jit(step, out_shardings=replicated(mesh))

    def step(self, spec: StageSpec | None = None, train: TrainConfig | None = None) -> Step:
        """Returns the training step.

        Args:
            spec: in place of the program's, with the same parameters, to count the work at another
                rematerialization.
            train: in place of the settings', to count it at another batch size.
        """
        spec, train, settings = spec or self.spec, train or self.settings.train, self.settings
        task = make_task(spec, make_module(spec, jnp.dtype(train.dtype)), train, self.clip)
        return make_train_step(task, self.tx, train, settings.optim, settings.seed)

    @property
    def frozen(self) -> StageSpec | None:
        """The other network that a step runs beside CLIP: a stage that is read, or a teacher."""
        return self.spec if self.settings.train.is_student else self.spec.frozen

    @property
    def constants(self) -> StepConstants:
        """Shapes of the step's constants."""
        frozen = None if self.frozen is None else abstract_params(self.frozen)
        if not self.spec.row.needs_clip:
            return StepConstants(frozen=frozen)
        clip = unboxed(self._clip_params()) if self.encoders else None
        return StepConstants(clip=clip, empty=self._captions(1), frozen=frozen)

    def constant_shardings(self, mesh: Mesh | AbstractMesh) -> StepConstants:
        """Returns the shardings of the step's constants."""
        whole = jax.tree.map(lambda _: replicated(mesh), self.constants)
        if whole.clip is not None:
            whole = whole.replace(clip=param_shardings(self._clip_params(), mesh, self.rules))
        if whole.frozen is not None:
            boxed = abstract_boxed(self.frozen)
            whole = whole.replace(frozen=param_shardings(boxed, mesh, self.rules))
        return whole

    def batch(self, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of a batch: the entries that the task reads."""
        settings, model = self.settings, self.spec.model
        side, clip_side = resolve.image_sizes(settings, self.clip and self.clip.cfg)
        side = settings.data.window or side
        shapes: dict[str, jax.ShapeDtypeStruct | None] = {}
        if not resolve.reads_store(settings):
            shapes["image"] = _images(rows, side)
        if clip_side is not None:
            shapes["clip_image"] = _images(rows, clip_side)
        if settings.data.degrade != "none":
            shapes["low_res"] = _images(rows, side // FACTOR)
        if self.spec.row.kind == "clip":
            shapes["tokens"] = _shape((rows, model.text.context), np.int32)
        elif self.spec.row.needs_clip:
            text = self._captions(rows)
            shapes |= {"tokens": text.clip_tokens, "mask": text.text_mask}
            shapes |= {"own_tokens": text.tokens}
            if "image" not in self.encoders:
                shapes["image_emb"] = _shape((rows, getattr(model, "image_dim", 0)), np.float32)
            if "text" not in self.encoders:
                shapes |= {"text_emb": text.text_emb, "text_states": text.text_states}
        names = self.task.batch_keys
        return {k: v for k, v in shapes.items() if k in names and v is not None}

    def _clip_params(self) -> Params:
        """Returns the boxed shapes of the frozen CLIP's parameters that the step is given."""
        return params_of(abstract_boxed(clip_spec(self.clip.cfg)), self.encoders)

    def _captions(self, rows: int) -> TextFeatures:
        """Returns the shapes of encoded captions."""
        model = self.spec.model
        own = model.own_context
        own_tokens = None if own is None else _shape((rows, own), np.int32)
        # Without a CLIP, a stage with a text encoder of its own leaves the CLIP's context open.
        context = (self.clip.cfg if self.clip else model).clip_context or own
        tokens, mask = _shape((rows, context), np.int32), _shape((rows, context), bool)
        if "text" in self.encoders:
            encode = functools.partial(text_features, self.clip)
            features = jax.eval_shape(encode, unboxed(self._clip_params()), tokens, mask)
            return features.replace(tokens=own_tokens)
        states = None
        if model.reads_clip_states:
            states = _shape((rows, context, model.text_dim), np.float32)
        return TextFeatures(
            text_emb=_shape((rows, getattr(model, "image_dim", 0)), np.float32),
            text_states=states,
            text_mask=mask,
            clip_tokens=tokens,
            tokens=own_tokens,
        )


def make_program(settings: Settings, spec: StageSpec, clip: ClipConfig | None) -> Program:
    """Returns the program of a run whose sizes are all known.

    Raises:
        UserError: the sizes do not fit together.
    """
    train = settings.train
    dtype = jnp.dtype(train.dtype)
    clip_module = None if clip is None else make_module(clip_spec(clip), dtype)
    module, boxed = make_module(spec, dtype), abstract_boxed(spec)
    return Program(
        settings=settings,
        spec=spec,
        clip=clip_module,
        module=module,
        task=make_task(spec, module, train, clip_module),
        boxed=boxed,
        tx=make_optimizer(settings.optim, unboxed(boxed), spec.fitted_names, train.steps),
        rules=merge_rules(train.sharding_rules),
    )


def _images(rows: int, side: int) -> jax.ShapeDtypeStruct:
    return _shape((rows, side, side, 3), np.uint8)


def _shape(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
