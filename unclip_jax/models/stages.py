"""Stages: one row for each trainable part of a model, and the spec that rebuilds its network.

STAGES has one row per stage, with everything the package knows about a stage by its name; what
depends on sizes comes from the network's config (`ModelConfig`). A StageSpec is one stage with all
its settings; it is plain data, stored in bundles and runs as JSON. Every module is called as

    module.apply({"params": params}, *inputs, train, rngs={"dropout": key})

with `inputs` as the config's `dummy_inputs` returns them: (images, tokens) for CLIP, (codes, dot,
Cond) for the autoregressive prior, (x_t, t, Cond) otherwise.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from unclip_jax.core import ready
from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths
from unclip_jax.core.types import Params
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.models.clip import Clip, ClipConfig
from unclip_jax.models.config import ModelConfig
from unclip_jax.models.dalle import Dalle, DalleConfig
from unclip_jax.models.decoder import Decoder, DecoderConfig
from unclip_jax.models.dvae import Dvae, DvaeConfig, TokenDecoding
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.prior_ar import CodeSampling, PriorAr, PriorArConfig
from unclip_jax.models.prior_diffusion import PriorDiffusion, PriorDiffusionConfig
from unclip_jax.models.upsampler import Upsampler, UpsamplerConfig

Sampling = SamplingConfig | CodeSampling | TokenDecoding

Kind = Literal["clip", "prior", "tokens", "decoder", "upsampler"]
"""What a stage does: embed; make z_i or image tokens of a caption; an image of it; a larger one."""

GIVES: dict[Kind, str] = {"prior": "image_emb", "tokens": "image_tokens"}
"""The field of Cond that a kind of stage fills in for those after it; images are `low_res`."""

TaskName = Literal["contrastive", "diffusion", "codes", "dvae", "tokens"]
"""How a stage is trained; the tasks are in train/tasks."""


@dataclasses.dataclass(frozen=True)
class StageDef:
    """Definition of a stage: a row of STAGES.

    Attributes:
        name: name in files, commands and the Python API.
        kind: what the stage is for.
        config: class of the network's config.
        module: class of the network, with fields `cfg` and `dtype`, and `norm` if `takes_norm`.
        key_id: number folded into random keys. Seeds depend on it: never change or reuse one.
        task: how it is trained.
        sampling: class of its sampling settings, None for a stage that is not sampled.
        is_diffused: whether it has diffusion settings.
        needs_clip: whether it is trained against a frozen CLIP.
        reads: another stage whose frozen network its training runs; `config.STAGE` is the bundle.
        takes_norm: whether the network takes the embedding norm of z_i.
        choice: a prior's name in settings and flags (`--prior`).
        follows: the upsampler whose last sampling step this one takes over.
    """

    name: str
    kind: Kind
    config: type[ModelConfig]
    module: type[nn.Module]
    key_id: int
    task: TaskName = "diffusion"
    sampling: type[Sampling] | None = SamplingConfig
    is_diffused: bool = True
    needs_clip: bool = False
    reads: str | None = None
    takes_norm: bool = False
    choice: str | None = None
    follows: str | None = None

    @property
    def gives(self) -> str:
        """The field of Cond that its result is for the stages after it."""
        return GIVES.get(self.kind, "low_res")

    @property
    def gives_embedding(self) -> bool:
        """Whether its result is z_i; such a stage sees images only through CLIP."""
        return self.gives == "image_emb"


ROWS = (
    StageDef("clip", "clip", ClipConfig, Clip, 0, "contrastive", sampling=None, is_diffused=False),
    StageDef(
        "prior_diffusion",
        "prior",
        PriorDiffusionConfig,
        PriorDiffusion,
        1,
        needs_clip=True,
        takes_norm=True,
        choice="diffusion",
    ),
    StageDef(
        "prior_ar",
        "prior",
        PriorArConfig,
        PriorAr,
        2,
        "codes",
        sampling=CodeSampling,
        is_diffused=False,
        needs_clip=True,
        choice="ar",
    ),
    StageDef("decoder", "decoder", DecoderConfig, Decoder, 3, needs_clip=True, takes_norm=True),
    StageDef("upsampler_256", "upsampler", UpsamplerConfig, Upsampler, 4),
    StageDef("upsampler_1024", "upsampler", UpsamplerConfig, Upsampler, 5),
    StageDef("super_res_first", "upsampler", UpsamplerConfig, Upsampler, 6),
    StageDef(
        "super_res_last", "upsampler", UpsamplerConfig, Upsampler, 7, follows="super_res_first"
    ),
    StageDef("dvae", "decoder", DvaeConfig, Dvae, 8, "dvae", TokenDecoding, is_diffused=False),
    StageDef(
        "dalle",
        "tokens",
        DalleConfig,
        Dalle,
        9,
        "tokens",
        sampling=CodeSampling,
        is_diffused=False,
        needs_clip=True,
        reads="dvae",
    ),
)

STAGES: dict[str, StageDef] = {row.name: row for row in ROWS}
"""Every stage by name, in the order of their key ids."""

CLIP = "clip"
"""Name of the one stage that others refer to: a model has one CLIP."""

PRIORS: dict[str, str] = {row.choice: row.name for row in ROWS if row.choice is not None}
"""The stage of each prior, by its name in settings and flags."""


def stages_of(kind: Kind) -> tuple[str, ...]:
    """Returns the names of the stages of a kind, in order."""
    return tuple(row.name for row in ROWS if row.kind == kind)


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One stage: its network, how it diffuses and is sampled, and its space of embeddings.

    `diffusion` and `sampling` are None where the stage's row has none; `embedding_norm` is None
    where no image embedding is used, or where it is written in codes.
    """

    stage: str
    model: ModelConfig
    diffusion: DiffusionConfig | None = None
    sampling: Sampling | None = None
    embedding_norm: EmbeddingNorm | None = None

    def __post_init__(self):
        """Checks that the settings fit the stage and each other."""
        if self.stage not in STAGES:
            raise ValueError(f"stage={self.stage!r} is not one of {', '.join(STAGES)}")
        row = self.row
        if not isinstance(self.model, row.config):
            raise ValueError(f"stage={self.stage!r} cannot be a {type(self.model).__name__}")
        if row.is_diffused and self.diffusion is None:
            raise ValueError(f"stage={self.stage!r} needs diffusion settings")
        if self.diffusion is not None and not row.is_diffused:
            raise ValueError(f"stage={self.stage!r} takes no diffusion settings")
        if self.embedding_norm is not None and not row.takes_norm:
            raise ValueError(f"stage={self.stage!r} takes no embedding norm")
        if self.sampling is not None:
            self._check_sampling()
        channels = self.model.out_channels
        if channels is not None and channels != (6 if self.diffusion.learns_variance else 3):
            raise ValueError(
                f"model.unet.out_channels={channels} does not suit "
                f"diffusion.variance={self.diffusion.variance!r}"
            )

    def _check_sampling(self) -> None:
        kind = self.row.sampling
        if kind is None or not isinstance(self.sampling, kind):
            raise ValueError(f"stage={self.stage!r} is not sampled by {self.sampling!r}")
        if self.diffusion is not None:
            sampling_steps(self.sampling, self.diffusion.num_steps)  # fails if they do not fit
        count = self.sampling.num_candidates
        if count > 1 and self.row.gives == "low_res":
            raise ValueError(f"sampling.num_candidates={count}: only a prior keeps the best")

    @property
    def row(self) -> StageDef:
        """The stage's row in STAGES."""
        return STAGES[self.stage]

    @property
    def frozen(self) -> "StageSpec | None":
        """The other stage whose frozen network training runs, beside CLIP."""
        return None if self.model.frozen is None else StageSpec(self.row.reads, self.model.frozen)

    @property
    def norm(self) -> EmbeddingNorm:
        """The embedding norm, "none" where the spec has none."""
        return self.embedding_norm or EmbeddingNorm("none")

    @property
    def open_fields(self) -> tuple[str, ...]:
        """Dotted names of the sizes that are needed and not set, such as "model.image_dim"."""
        names = tuple(f"model.{name}" for name in self.model.open_fields)
        return names + (("embedding_norm.scale",) if self.norm.scale is None else ())

    @property
    def gives_unit_embedding(self) -> bool:
        """Whether a prior's z_i have unit length."""
        return self.model.embedding_codec is not None or self.norm.kind == "l2"

    @property
    def fitted_names(self) -> frozenset[str]:
        """Names of the parameters that are fitted before training and never trained."""
        return self.model.fitted_names | self.norm.fitted_names


def clip_spec(cfg: ClipConfig) -> StageSpec:
    """Returns the spec of a CLIP."""
    return StageSpec(CLIP, cfg)


def check_together(specs: Mapping[str, StageSpec]) -> None:
    """Checks that the stages of a bundle fit together.

    The decoder must read embeddings of the length that the priors make: the autoregressive prior
    and one that diffuses z / |z| give unit vectors; a decoder that does not bring z_i to unit
    length itself takes them raw, several times as long. A stage that was trained on the output of
    another must be with one of the same sizes.

    Raises:
        UserError: the stages do not fit together.
    """
    for name, spec in specs.items():
        if spec.frozen is not None and specs.get(spec.row.reads, spec.frozen).model != (
            spec.frozen.model
        ):
            raise UserError(f"{name} was trained with another {spec.row.reads} than the bundle's")
    for decoder in specs.values():
        if decoder.row.kind != "decoder" or decoder.norm.kind == "l2":
            continue
        for name, spec in specs.items():
            if spec.row.kind == "prior" and spec.gives_unit_embedding:
                raise UserError(
                    f"{name} gives image embeddings of unit length, but the decoder reads raw "
                    f"ones (embedding_norm.kind={decoder.norm.kind!r}): train the decoder with "
                    "embedding_norm.kind='l2', or use another prior"
                )


def spec_to_dict(spec: StageSpec) -> dict[str, Any]:
    """Returns the spec as JSON-able values."""
    return to_dict(spec)


def spec_from_dict(values: Mapping[str, Any]) -> StageSpec:
    """Builds a spec from `spec_to_dict`'s values or from a training config's sections."""
    stage = values.get("stage")
    if not isinstance(stage, str) or stage not in STAGES:
        raise UserError(f"stage={stage!r} is not one of {', '.join(STAGES)}")
    row, model, sampling = STAGES[stage], values.get("model"), values.get("sampling")
    if not isinstance(model, row.config):
        model = build(row.config, model, "model")
    if isinstance(sampling, Mapping):
        sampling = build(row.sampling or SamplingConfig, sampling, "sampling")
    return build(StageSpec, {**values, "model": model, "sampling": sampling})


def make_module(spec: StageSpec, dtype: DTypeLike = jnp.float32) -> nn.Module:
    """Returns the stage's network, which computes in `dtype`.

    Raises:
        UserError: sizes that are those of the CLIP have not been filled in.
    """
    if spec.open_fields:
        raise UserError(
            f"{spec.stage}: {', '.join(spec.open_fields)} not set; set a value, or pass "
            "--config.clip=BUNDLE to take it from a CLIP"
        )
    norm = {"norm": spec.norm} if spec.row.takes_norm else {}
    return spec.row.module(cfg=spec.model, dtype=dtype, **norm)


def init_variables(spec: StageSpec, module: nn.Module, key: Key[Array, ""]) -> Params:
    """Returns freshly drawn parameters, boxed with their logical axes; meant for use under jit."""
    inputs, method = spec.model.dummy_inputs(), spec.model.init_method
    return module.init({"params": key}, *inputs, method=method)["params"]


def abstract_params(spec: StageSpec) -> Params:
    """Returns the parameters as shapes and dtypes, without boxes; nothing is computed."""
    return unboxed(abstract_boxed(spec))


def param_shapes(spec: StageSpec) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a stage's parameters by path, kept for commands: tracing is slow."""
    parts = ("shapes", spec)
    stored = ready.read(parts)
    if stored is not None:
        return {path: tuple(shape) for path, shape in json.loads(stored).items()}
    leaves = flatten_paths(abstract_params(spec))
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    ready.write(parts, json.dumps(shapes).encode())
    return shapes


def abstract_boxed(spec: StageSpec) -> Params:
    """Returns `init_variables`' tree as shapes, boxed with logical axes.

    Raises:
        UserError: the spec's sizes do not fit together.
    """
    module = make_module(spec)
    try:
        return jax.eval_shape(lambda key: init_variables(spec, module, key), jax.random.key(0))
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{spec.stage}: no such network can be built: {reason}") from error


def unboxed(params: Params) -> Params:
    """Removes the partitioning boxes without adding sharding constraints, whatever the mesh."""
    is_box = _is_box
    return jax.tree.map(lambda x: x.value if is_box(x) else x, params, is_leaf=is_box)


def _is_box(x: Any) -> bool:
    return isinstance(x, nn.Partitioned)
