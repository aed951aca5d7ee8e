"""Stages: which network and settings each trainable part of a model has, and how to make it.

A StageSpec is all that is needed to rebuild a stage's network; it is plain data and travels in
bundles and runs as JSON. Every module made here is called as

    module.apply({"params": params}, *inputs, train, rngs={"dropout": key})

with `inputs` as `dummy_inputs` returns them: (images, tokens) for CLIP, (codes, dot, Cond) for the
autoregressive prior, (x_t, t, Cond) otherwise.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.models.clip import Clip, ClipConfig
from unclip_jax.models.decoder import Decoder, DecoderConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.prior_ar import CodeSampling, PriorAr, PriorArConfig
from unclip_jax.models.prior_diffusion import PriorDiffusion, PriorDiffusionConfig
from unclip_jax.models.upsampler import Upsampler, UpsamplerConfig

ModelConfig = ClipConfig | PriorArConfig | PriorDiffusionConfig | DecoderConfig | UpsamplerConfig

MODEL_CONFIGS: dict[str, type[ModelConfig]] = {
    "clip": ClipConfig,
    "prior_diffusion": PriorDiffusionConfig,
    "prior_ar": PriorArConfig,
    "decoder": DecoderConfig,
    "upsampler_256": UpsamplerConfig,
    "upsampler_1024": UpsamplerConfig,
    "super_res_first": UpsamplerConfig,
    "super_res_last": UpsamplerConfig,
}
"""The config class of each stage's network."""

STAGES = tuple(MODEL_CONFIGS)

NOT_DIFFUSED = ("clip", "prior_ar")
"""The stages that have no diffusion settings."""

Sampling = SamplingConfig | CodeSampling


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One stage: its network, how it diffuses and is sampled, and its space of embeddings.

    `diffusion` is None for NOT_DIFFUSED, `sampling` for CLIP; `embedding_norm` is None where no
    image embedding is used, or where it is written in codes.
    """

    stage: str
    model: ModelConfig
    diffusion: DiffusionConfig | None = None
    sampling: Sampling | None = None
    embedding_norm: EmbeddingNorm | None = None

    def __post_init__(self):
        """Checks that network and stage fit each other."""
        if self.stage not in MODEL_CONFIGS:
            raise ValueError(f"stage={self.stage!r} is not one of {', '.join(STAGES)}")
        if not isinstance(self.model, MODEL_CONFIGS[self.stage]):
            raise ValueError(f"stage={self.stage!r} cannot be a {type(self.model).__name__}")
        if self.stage not in NOT_DIFFUSED and self.diffusion is None:
            raise ValueError(f"stage={self.stage!r} needs diffusion settings")
        if self.stage == "prior_ar" and (self.diffusion or self.embedding_norm):
            raise ValueError("prior_ar takes neither diffusion settings nor an embedding norm")
        if self.sampling is not None and not isinstance(self.sampling, sampling_class(self.stage)):
            raise ValueError(f"stage={self.stage!r} is not sampled by {self.sampling!r}")
        if self.sampling is not None and self.diffusion is not None:
            sampling_steps(self.sampling, self.diffusion.num_steps)  # fails if they do not fit
        if self.sampling is not None and self.sampling.draws > 1:
            if not self.stage.startswith("prior"):
                raise ValueError(
                    f"sampling.draws={self.sampling.draws}: only a prior keeps the best"
                )
        unet = getattr(self.model, "unet", None)
        if unet is not None and unet.out_channels != (6 if self.diffusion.learns_variance else 3):
            variance = self.diffusion.variance
            raise ValueError(
                f"model.unet.out_channels={unet.out_channels} does not suit "
                f"diffusion.variance={variance!r}"
            )

    @property
    def norm(self) -> EmbeddingNorm:
        """The embedding norm, "none" where the spec has none."""
        return self.embedding_norm or EmbeddingNorm("none")


def own_context(spec: StageSpec) -> int | None:
    """Returns the context of the text transformer that a stage trains itself, None without one.

    A text encoder that is left over in the config of a stage with another caption path is not one.
    """
    match spec.model:
        case PriorArConfig(text="tokens", context=context):
            return context
        case PriorDiffusionConfig(text="tokens", context=context):
            return context
        case DecoderConfig(text="transformer", text_encoder=encoder):
            return encoder.context
    return None


def check_embeddings(specs: Mapping[str, StageSpec]) -> None:
    """Refuses a prior whose z_i have lost the length that the decoder reads.

    The autoregressive prior and one that diffuses z / |z| give unit vectors; a decoder that does
    not bring z_i to unit length itself takes them raw, several times as long.

    Raises:
        UserError: the stages do not fit together.
    """
    decoder = specs.get("decoder")
    if decoder is None or decoder.norm.kind == "l2":
        return
    for name, spec in specs.items():
        if name == "prior_ar" or (name == "prior_diffusion" and spec.norm.kind == "l2"):
            raise UserError(
                f"{name} gives image embeddings of unit length, but the decoder reads raw ones "
                f"(embedding_norm.kind={decoder.norm.kind!r}): train the decoder with "
                "embedding_norm.kind='l2', or use another prior"
            )


def sampling_class(stage: str) -> type[Sampling]:
    """Returns the class of a stage's sampling settings."""
    return CodeSampling if stage == "prior_ar" else SamplingConfig


def spec_to_dict(spec: StageSpec) -> dict[str, Any]:
    """Returns the spec as JSON-able values."""
    return to_dict(spec)


def spec_from_dict(values: Mapping[str, Any]) -> StageSpec:
    """Builds a spec from `spec_to_dict`'s values or from a training config's sections."""
    stage = values.get("stage")
    if not isinstance(stage, str) or stage not in MODEL_CONFIGS:
        raise UserError(f"stage={stage!r} is not one of {', '.join(STAGES)}")
    model = values.get("model")
    if not isinstance(model, MODEL_CONFIGS[stage]):
        model = build(MODEL_CONFIGS[stage], model, "model")
    sampling = values.get("sampling")
    if isinstance(sampling, Mapping):
        sampling = build(sampling_class(stage), sampling, "sampling")
    return build(StageSpec, {**values, "model": model, "sampling": sampling})


def make_module(spec: StageSpec, dtype: DTypeLike = jnp.float32) -> nn.Module:
    """Returns the stage's network, which computes in `dtype`."""
    match spec.model:
        case ClipConfig():
            return Clip(spec.model, dtype)
        case PriorDiffusionConfig():
            return PriorDiffusion(spec.model, spec.norm, dtype)
        case PriorArConfig():
            return PriorAr(spec.model, dtype)
        case DecoderConfig():
            return Decoder(spec.model, spec.norm, dtype)
        case UpsamplerConfig():
            return Upsampler(spec.model, dtype)
    raise UserError(f"stage {spec.stage} has no network for {type(spec.model).__name__}")


def dummy_inputs(spec: StageSpec, batch: int = 1) -> tuple[Any, ...]:
    """Returns zeros of the shapes and types that the stage's network takes at sampling size.

    A CLIP without an image tower takes tokens alone, by `encode_text`.
    """
    match spec.model:
        case ClipConfig(vision=None, text=text):
            return (jnp.zeros((batch, text.context), jnp.int32),)
        case ClipConfig(vision=vision, text=text):
            images = _image(batch, vision.image_size)
            return images, jnp.zeros((batch, text.context), jnp.int32)
        case PriorDiffusionConfig() as cfg:
            x_t = jnp.zeros((batch, cfg.image_dim))
            ids = cfg.context if cfg.text == "tokens" else None
            cond = Cond(text=_text(batch, cfg.image_dim, cfg.context, cfg.text_dim, ids))
        case PriorArConfig() as cfg:
            ids = cfg.context if cfg.text == "tokens" else None
            cond = Cond(text=_text(batch, cfg.image_dim, cfg.context, cfg.text_dim, ids))
            codes = jnp.zeros((batch, cfg.codec.components), jnp.int32)
            return codes, jnp.zeros((batch,), jnp.int32), cond
        case DecoderConfig() as cfg:
            x_t = _image(batch, cfg.unet.image_size)
            ids = cfg.text_encoder.context if cfg.text == "transformer" else None
            text = _text(batch, cfg.image_dim, cfg.text_context, cfg.text_dim, ids)
            cond = Cond(
                image_emb=jnp.zeros((batch, cfg.image_dim)),
                image_keep=jnp.ones((batch,), bool),
                text=None if cfg.text == "none" else text,
            )
        case UpsamplerConfig() as cfg:
            x_t = _image(batch, cfg.unet.image_size)
            cond = Cond(low_res=_image(batch, cfg.low_res_size))
    return x_t, jnp.zeros((batch,), jnp.int32), cond


def init_variables(spec: StageSpec, module: nn.Module, key: Key[Array, ""]) -> Params:
    """Returns freshly drawn parameters, boxed with their logical axes; meant for use under jit."""
    has_no_images = isinstance(spec.model, ClipConfig) and spec.model.vision is None
    method = "encode_text" if has_no_images else None
    return module.init({"params": key}, *dummy_inputs(spec), method=method)["params"]


def abstract_params(spec: StageSpec) -> Params:
    """Returns shapes and types of the parameters, without boxes and without computing anything."""
    return unboxed(abstract_boxed(spec))


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
    """Takes the partitioning boxes off; never adds a sharding constraint, whatever the mesh."""
    is_box = _is_box
    return jax.tree.map(lambda x: x.value if is_box(x) else x, params, is_leaf=is_box)


def _is_box(x: Any) -> bool:
    return isinstance(x, nn.Partitioned)


def _image(batch: int, size: int) -> Array:
    return jnp.zeros((batch, size, size, 3))


def _text(batch: int, dim: int, context: int, width: int, ids: int | None) -> TextFeatures:
    """Text features with frozen CLIP states if `width`, with own token ids if `ids`."""
    states = jnp.zeros((batch, context, width)) if width else None
    return TextFeatures(
        text_emb=jnp.zeros((batch, dim)),
        text_states=states,
        text_mask=None if states is None else jnp.ones((batch, context), bool),
        tokens=None if ids is None else jnp.zeros((batch, ids), jnp.int32),
    )
