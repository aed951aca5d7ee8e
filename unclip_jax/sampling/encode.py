"""Captions and images through the frozen CLIP of a bundle, over the local devices."""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from unclip_jax.checkpoint.bundle import Bundle, Stage
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, Size, TextFeatures
from unclip_jax.data.images import to_float, to_uint8
from unclip_jax.models.clip import ClipConfig, fit_images, text_features
from unclip_jax.models.stages import StageSpec, make_module
from unclip_jax.sampling import parallel
from unclip_jax.sampling.prompts import check_lengths, read_prompts

TEXT_LIMIT = 16  # captions a device encodes a call
IMAGE_LIMIT = 32
FLOAT_LIMIT = 2.0  # a float beyond it is no picture in [-1, 1], even one that resizing overshot
PRECISION = {"float32": "highest", "bfloat16": "default"}

_placed: "weakref.WeakKeyDictionary[Stage, Any]" = weakref.WeakKeyDictionary()


def placed_params(stage: Stage) -> Any:
    """Returns a stage's parameters on every local device; they are moved there once."""
    if stage not in _placed:
        _placed[stage] = parallel.replicate(stage.params)
    return _placed[stage]


def compute_dtype(dtype: str) -> Any:
    """Returns the arithmetic dtype of a stated name."""
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[dtype]


def text_encoder(spec: StageSpec, dtype: str) -> Callable[[Params, Array, Array], TextFeatures]:
    """Returns the pure function (params, tokens, mask) of a CLIP's text tower."""
    module = make_module(spec, dtype=compute_dtype(dtype))

    def encode(params: Params, tokens: Array, mask: Array) -> TextFeatures:
        with jax.default_matmul_precision(PRECISION[dtype]):
            return text_features(module, params, tokens, mask)

    return encode


@functools.lru_cache(maxsize=32)
def _text_program(spec: StageSpec, dtype: str) -> Callable[..., TextFeatures]:
    return parallel.over_devices(text_encoder(spec, dtype), shared=(0,))


@functools.lru_cache(maxsize=32)
def _image_program(spec: StageSpec, dtype: str) -> Callable[..., Array]:
    module = make_module(spec, dtype=compute_dtype(dtype))

    def encode(params: Any, images: Array) -> Array:
        with jax.default_matmul_precision(PRECISION[dtype]):
            return module.apply({"params": params}, images, method="encode_image")

    return parallel.over_devices(encode, shared=(0,))


def _in_batches(
    program: Callable[..., Any], params: Any, inputs: Any, limit: int, per_device: int
) -> Any:
    """Runs `program` over the leading axis of `inputs` in device batches; NumPy results."""
    n = jax.tree.leaves(inputs)[0].shape[0]
    size = min(limit, per_device) * parallel.device_count()
    parts = []
    for start in range(0, n, size):
        part = jax.tree.map(lambda leaf: leaf[start : start + size], inputs)  # noqa: B023
        count = jax.tree.leaves(part)[0].shape[0]
        split = parallel.split(part, min(limit, per_device))
        parts.append(parallel.join(program(params, *split), count))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def encode_text(model: Bundle, prompts: Sequence[str], *, dtype: str = "float32") -> TextFeatures:
    """Encodes captions into everything the bundle's stages are conditioned on (NumPy arrays).

    `tokens` have the longest context of the stages with a text transformer of their own; for each
    of them `fit_context` cuts them to its own.
    """
    check_lengths(prompts)
    prompts = read_prompts(model, prompts)
    if not prompts:
        raise UserError("no prompt given")
    stage = model.stage("clip")
    if model.tokenizer is None:
        raise UserError(f"bundle {model.name!r} has no tokenizer")
    clip = model.tokenizer.encode(prompts, context=stage.spec.model.text.context)
    inputs = (np.asarray(clip.tokens), np.asarray(clip.mask))
    # Few distinct shapes, so that one more prompt does not compile a program.
    share = -(-len(prompts) // parallel.device_count())
    per_device = 1 << (share - 1).bit_length()
    program = _text_program(stage.spec, dtype)
    features = _in_batches(program, placed_params(stage), inputs, TEXT_LIMIT, per_device)
    own = [stage.spec.model.own_context for stage in model.stages.values()]
    longest = max((context for context in own if context is not None), default=None)
    if longest is None:
        return features
    return features.replace(tokens=model.tokenizer.encode(prompts, longest).tokens)


def batch_size(spec: StageSpec, cond: Cond) -> Size:
    """Returns the number of examples that a condition is of; fails without what the stage needs."""
    fields = spec.model.required_cond
    given = jax.tree.leaves([getattr(cond, field) for field in fields])
    if not given:
        names = " or ".join(f"Cond.{field}" for field in fields)
        raise UserError(f"the condition of {spec.stage} is missing: give {names}")
    return given[0].shape[0]


def with_own_tokens(
    model: Bundle, text: TextFeatures, prompts: Sequence[str], stage: str
) -> TextFeatures:
    """Puts in the token ids of a stage's own text transformer, None if it has none."""
    context = model.stage(stage).spec.model.own_context
    tokens = (
        None
        if context is None
        else model.tokenizer.encode(read_prompts(model, prompts), context).tokens
    )
    return text.replace(tokens=tokens)


def check_images(pixels: np.ndarray) -> None:
    """Refuses what is no batch of RGB pictures: uint8, or floats in [-1, 1]."""
    whole, real = pixels.dtype == np.uint8, jnp.issubdtype(pixels.dtype, jnp.floating)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or not (whole or real):
        raise UserError(
            "images must be arrays [n, h, w, 3], uint8 or floats in [-1, 1], not "
            f"{pixels.dtype} {list(pixels.shape)}"
        )
    if not whole and np.abs(pixels).max(initial=0.0) > FLOAT_LIMIT:
        raise UserError("images as floats must lie in [-1, 1]; pass 0..255 as uint8")


@functools.lru_cache(maxsize=32)
def _fit_program(cfg: ClipConfig) -> Callable[[Array], Array]:
    return jax.jit(lambda images: to_float(to_uint8(fit_images(images, cfg))))


def fit_to_tower(
    cfg: ClipConfig, image: UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "s s 3"]:
    """Returns an image of any shape as the square in [-1, 1] that the tower is to see.

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
    stage = model.stage("clip")
    if stage.spec.model.vision is None:
        raise UserError(f"the CLIP of bundle {model.name!r} has no image tower")
    arrays = [np.asarray(image) for image in images]
    for array in arrays:
        check_images(array[None])
    if not arrays:
        raise UserError("no image given")
    pixels = np.stack([fit_to_tower(stage.spec.model, array) for array in arrays])
    share = -(-len(pixels) // parallel.device_count())
    per_device = 1 << (share - 1).bit_length()
    program = _image_program(stage.spec, dtype)
    return _in_batches(program, placed_params(stage), (pixels,), IMAGE_LIMIT, per_device)
