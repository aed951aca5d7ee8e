"""Captions and images through the frozen CLIP of a bundle, over the local devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Params, TextFeatures
from unclip_jax.data.images import to_float, to_uint8
from unclip_jax.models.clip import ClipConfig, fit_images, text_features
from unclip_jax.models.stages import CLIP, StageSpec, make_module
from unclip_jax.sampling import parallel
from unclip_jax.sampling.programs import PRECISION, compute_dtype
from unclip_jax.sampling.prompts import check_prompts, read_prompts
from unclip_jax.sampling.settings import check_bundle
from unclip_jax.text.context import fit_context

TEXT_LIMIT = 16  # captions per device and call
IMAGE_LIMIT = 32
FLOAT_LIMIT = 2.0  # images in [-1, 1] have no larger float, even where resizing overshot


def text_encoder(spec: StageSpec, dtype: str) -> Callable[[Params, Array, Array], TextFeatures]:
    """Returns the pure function (params, tokens, mask) of a CLIP's text tower."""
    module = make_module(spec, dtype=compute_dtype(dtype))

    def encode(params: Params, tokens: Array, mask: Array) -> TextFeatures:
        with jax.default_matmul_precision(PRECISION[dtype]):
            return text_features(module, params, tokens, mask)

    return encode


@functools.lru_cache(maxsize=32)
def _text_program(spec: StageSpec, dtype: str) -> Callable[..., TextFeatures]:
    key = ("text", spec, dtype)
    return parallel.over_devices(text_encoder(spec, dtype), shared=(0,), key=key)


@functools.lru_cache(maxsize=32)
def _image_program(spec: StageSpec, dtype: str) -> Callable[..., Array]:
    module = make_module(spec, dtype=compute_dtype(dtype))

    def encode(params: Any, images: Array) -> Array:
        with jax.default_matmul_precision(PRECISION[dtype]):
            return module.apply({"params": params}, images, method="encode_image")

    return parallel.over_devices(encode, shared=(0,), key=("image", spec, dtype))


def encode_text(model: Bundle, prompts: Sequence[str], *, dtype: str = "float32") -> TextFeatures:
    """Encodes captions into everything the bundle's stages are conditioned on (NumPy arrays).

    `tokens` have the longest context of the stages with a text transformer of their own; `fit_text`
    brings them to that of one stage.
    """
    check_bundle(model)
    check_prompts(prompts)
    prompts = read_prompts(model, prompts)
    if not prompts:
        raise UserError("no prompt given")
    if model.tokenizer is None:
        raise UserError(f"bundle {model.name!r} has no tokenizer")
    if CLIP not in model.stages and reads_tokens_alone(model):
        return TextFeatures(tokens=model.tokenizer.encode(prompts, caption_context(model)).tokens)
    stage = model.clip
    clip = model.tokenizer.encode(prompts, context=stage.spec.model.text.context)
    inputs = (np.asarray(clip.tokens), np.asarray(clip.mask))
    program = _text_program(stage.spec, dtype)
    features = parallel.map_rows(program, parallel.placed_params(stage), inputs, TEXT_LIMIT)
    own = [stage.spec.model.own_context for stage in model.stages.values()]
    longest = max((context for context in own if context is not None), default=None)
    if longest is None:
        return features
    return features.replace(tokens=model.tokenizer.encode(prompts, longest).tokens)


def reads_tokens_alone(model: Bundle) -> bool:
    """Whether no stage of a bundle reads what a CLIP makes of a caption or an image."""
    specs = [stage.spec for stage in model.stages.values()]
    return all(spec.model.reads_tokens_alone or not spec.row.needs_clip for spec in specs)


def caption_context(model: Bundle) -> int:
    """Returns the tokens of a caption that are read: CLIP's or, without one, the stages' own."""
    if CLIP in model.stages or not reads_tokens_alone(model):
        return model.clip.spec.model.text.context
    return max(stage.spec.model.own_context or 0 for stage in model.stages.values())


def fit_text(spec: StageSpec, text: TextFeatures) -> TextFeatures:
    """Returns captions with their tokens at a stage's own context; None where it has none."""
    context, tokens = spec.model.own_context, text.tokens
    has_tokens = context is not None and tokens is not None
    return text.replace(tokens=fit_context(tokens, context) if has_tokens else None)


def check_images(pixels: np.ndarray) -> None:
    """Refuses anything but a batch of RGB images, uint8 or floats in [-1, 1]."""
    whole, real = pixels.dtype == np.uint8, jnp.issubdtype(pixels.dtype, jnp.floating)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or not (whole or real):
        raise UserError(
            "images must be arrays [n, h, w, 3], uint8 or floats in [-1, 1], not "
            f"{pixels.dtype} {list(pixels.shape)}"
        )
    if not pixels.size:
        raise UserError(f"images must have pixels, not the shape {list(pixels.shape[1:])}")
    if not whole and np.abs(pixels).max(initial=0.0) > FLOAT_LIMIT:
        raise UserError("images as floats must lie in [-1, 1]; pass 0..255 as uint8")


@functools.lru_cache(maxsize=32)
def _fit_program(cfg: ClipConfig) -> Callable[[Array], Array]:
    return jax.jit(lambda images: to_float(to_uint8(fit_images(images, cfg))))


def fit_to_tower(
    cfg: ClipConfig, image: UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "s s 3"]:
    """Returns an image of any shape as the square in [-1, 1] that the tower sees.

    What had to be resized has 8 bits, as in CLIP's own preprocessing, which resizes 8-bit images.
    """
    if image.dtype == np.uint8:
        image = to_float(image)
    image = np.asarray(image, np.float32)
    if image.shape[:2] == (cfg.vision.image_size,) * 2:
        return image
    return np.asarray(_fit_program(cfg)(image[None])[0])


def encode_images(
    model: Bundle, images: Sequence[np.ndarray] | np.ndarray | Array, *, dtype: str = "float32"
) -> Float[np.ndarray, "n d"]:
    """Returns raw CLIP image embeddings z_i of uint8 images or of floats in [-1, 1].

    This is the one way to z_i of a bundle: images of any shape are fitted to the tower's square as
    `ClipConfig.resize` says.

    Raises:
        UserError: an image is not [h, w, 3], or has floats far outside [-1, 1].
    """
    check_bundle(model)
    stage = model.clip
    if stage.spec.model.vision is None:
        raise UserError(f"the CLIP of bundle {model.name!r} has no image tower")
    arrays = [np.asarray(image) for image in images]
    for array in arrays:
        check_images(array[None])
    if not arrays:
        raise UserError("no image given")
    pixels = np.stack([fit_to_tower(stage.spec.model, array) for array in arrays])
    program = _image_program(stage.spec, dtype)
    return parallel.map_rows(program, parallel.placed_params(stage), (pixels,), IMAGE_LIMIT)
