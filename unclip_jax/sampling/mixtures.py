"""Mixtures of captions and images in CLIP's image-embedding space, decoded to images.

A caption becomes z_i by the bundle's prior, an image by the CLIP's image tower. Like an
interpolation of two images (unCLIP §3.2), a mixture is decoded with the empty caption: no caption
describes it, and the mean of captions' states is not the state of any.

Item number i of draw j has the key of draw j of prompt i in `sample`, so that more draws change no
earlier image. All mixtures of one draw share the embeddings of its items and the noise, those of
draw j of prompt 0: from one mixture to another, only the weights change.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.batching import map_batches
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys
from unclip_jax.core.trees import take
from unclip_jax.core.types import Cond
from unclip_jax.core.vectors import linear_mean, normalized_weights, spherical_mean
from unclip_jax.data.images import to_uint8
from unclip_jax.sampling import parallel
from unclip_jax.sampling.arguments import check_num, settings_of
from unclip_jax.sampling.encode import encode_images
from unclip_jax.sampling.latents import decoder_cond, empty_caption
from unclip_jax.sampling.monitor import Monitor, Progress
from unclip_jax.sampling.pipeline import (
    REQUEST_LIMIT,
    encode_captions,
    make_pipeline,
    run_pipeline,
)
from unclip_jax.sampling.prompts import check_prompts
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve
from unclip_jax.sampling.single_stage import root_of
from unclip_jax.sampling.stage_sampler import Sampler

Source = str | np.ndarray | Array
"""A caption, or an RGB image [h, w, 3]."""
Weight = float | int
Item = Source | tuple[Source, Weight]
"""A source of weight 1, or one with its weight."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What is mixed: sources, and the weights of each mixture of them.

    Attributes:
        sources: captions and images.
        weights: float64, of m mixtures; rows sum to 1.
        negative: sources that guidance moves away from.
        negative_weights: of the negative sources; they sum to 1.
        linear: normalizes the arithmetic mean of the directions; else their mean on the sphere.
    """

    sources: Sequence[Source]
    weights: Float[np.ndarray, "m k"]
    negative: Sequence[Source] = ()
    negative_weights: Float[np.ndarray, " j"] | None = None
    linear: bool = False

    @property
    def all_sources(self) -> list[Source]:
        """Sources, and then the negative ones."""
        return [*self.sources, *self.negative]


def make_mixture(
    items: Sequence[Item] | Item,
    weights: Sequence[Sequence[Weight]] | np.ndarray | None = None,
    *,
    negative: Sequence[Item] | Item = (),
    linear: bool = False,
) -> Mixture:
    """Checks items and weights.

    Args:
        weights: of one mixture a row, in place of the items' own.

    Raises:
        UserError: no item, or weights that are negative, not finite, all 0, or not one an item.
    """
    sources, own = _split(items)
    if not sources:
        raise UserError("nothing to mix; give captions or images")
    if weights is None:
        rows = [own]
    elif any(isinstance(item, tuple) for item in items):
        raise UserError("give weights with the items or as `weights`, not both")
    else:
        rows = [list(row) if np.ndim(row) == 1 else [row] for row in weights]
    if not rows or any(len(row) != len(sources) for row in rows):
        raise UserError(f"weights must be rows of {len(sources)} numbers, one for each item")
    away, away_weights = _split(negative)
    return Mixture(
        sources,
        np.stack([_checked(row, "weights") for row in rows]),
        away,
        _checked(away_weights, "negative weights") if away else None,
        linear,
    )


def _split(items: Sequence[Item] | Item) -> tuple[list[Source], list[Weight]]:
    """Returns the sources of items and their weights; checks the captions."""
    if not isinstance(items, Iterable):
        raise UserError(f"mix takes captions and images, not {items!r}")
    is_one = isinstance(items, str) or _is_weighted(items)
    pairs = [_pair(item) for item in ([items] if is_one else items)]
    captions = [source for source, _ in pairs if isinstance(source, str)]
    if not all(caption.strip() for caption in captions):
        raise UserError("a caption is empty; describe an image")
    check_prompts(captions)
    return [source for source, _ in pairs], [weight for _, weight in pairs]


def _is_weighted(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Real)


def _pair(item: Item) -> tuple[Source, Weight]:
    return item if _is_weighted(item) else (item, 1.0)


def _checked(weights: Sequence[Weight] | np.ndarray, name: str) -> Float[np.ndarray, " k"]:
    try:
        return normalized_weights(np.asarray(weights, np.float64))
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be finite, from 0 and not all 0, not {weights}") from error


def resolve_mix(model: Bundle, mixture: Mixture, settings: SampleSettings) -> Plan:
    """Fills unset settings and checks the others; without captions no prior is looked for."""
    has_captions = any(isinstance(source, str) for source in mixture.all_sources)
    if not has_captions:
        for field in dataclasses.fields(settings):
            if field.name.startswith("prior") and getattr(settings, field.name) is not None:
                raise UserError(f"{field.name} is for captions, and all items are images")
        settings = dataclasses.replace(settings, prior="none")
    plan = resolve(model, settings)
    if has_captions and plan.prior == "none":  # also as the default of a bundle without priors
        raise UserError(
            "prior 'none' gives no embedding to mix: use another for captions, such as text"
        )
    if mixture.negative and plan.decoder_sampling.guidance == 1.0:
        raise UserError("negative needs guidance, which is off: pass a guidance above 1, such as 3")
    return plan


def draw_mixtures(
    model: Bundle,
    mixture: Mixture,
    key: Key[Array, ""],
    plan: Plan,
    *,
    num: int = 1,
    monitor: Monitor,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Draws `num` images of each mixture, grouped by draw, and then by row of the weights."""
    check_count(num, len(mixture.weights))
    samplers = make_pipeline(model, plan, monitor)
    has_prior = samplers[0].gives == "image_emb"
    prior = samplers[0] if has_prior else None
    z = source_embeddings(model, mixture.all_sources, key, plan, prior, num=num, monitor=monitor)
    count = len(mixture.sources)
    image_emb = np.concatenate(
        [mixed(z[j, :count], row, mixture.linear) for j in range(num) for row in mixture.weights]
    ).reshape(num * len(mixture.weights), -1)
    away = None
    if mixture.negative:
        rows = [mixed(z[j, count:], mixture.negative_weights, mixture.linear) for j in range(num)]
        away = np.repeat(np.stack(rows), len(mixture.weights), axis=0)
    draws = np.repeat(np.arange(num), len(mixture.weights))
    keys = image_keys(key, np.zeros_like(draws), draws)
    empty = empty_caption(model, plan.dtype)

    def draw(rows: list[int]) -> UInt8[np.ndarray, "n s s 3"]:
        cond = decoder_cond(image_emb[rows], empty).replace(negative_emb=take(away, rows))
        made = run_pipeline(samplers[has_prior:], cond, take(keys, rows), {"": empty})
        return to_uint8(made)

    return map_batches(draw, range(len(draws)), parallel.device_batch(len(draws)))


def check_count(num: int, mixtures: int) -> None:
    """Refuses a number of draws below 1, and more images than a call makes."""
    check_num(num)
    if num * mixtures > REQUEST_LIMIT:
        raise UserError(f"{num} x {mixtures} are more than {REQUEST_LIMIT:,} images; make fewer")


def source_embeddings(
    model: Bundle,
    sources: Sequence[Source],
    key: Key[Array, ""],
    plan: Plan,
    prior: Sampler | None,
    *,
    num: int,
    monitor: Monitor,
) -> Float[np.ndarray, "num k d"]:
    """Returns the raw z_i of every source for each draw: a caption's differ, an image's do not."""
    captions = {i: source for i, source in enumerate(sources) if isinstance(source, str)}
    images = {i: source for i, source in enumerate(sources) if i not in captions}
    found: list[np.ndarray | None] = [None] * len(sources)
    if images:
        values = list(images.values())
        encoded = monitor.timed("clip", lambda: encode_images(model, values, dtype=plan.dtype))
        for i, row in zip(images, encoded, strict=True):
            found[i] = np.repeat(row[None], num, axis=0)
    if captions:
        text, uncond = encode_captions(model, list(captions.values()), plan, monitor)
        rows = np.repeat(np.arange(len(captions)), num)
        draws = np.tile(np.arange(num), len(captions))
        keys = image_keys(key, np.asarray(list(captions))[rows], draws)

        def draw(chosen: list[int]) -> Float[np.ndarray, "n d"]:
            cond = Cond(text=take(text, rows[chosen]))
            return run_pipeline([prior], cond, take(keys, chosen), uncond)

        drawn = map_batches(draw, range(len(rows)), parallel.device_batch(len(rows)))
        for row, i in enumerate(captions):
            found[i] = drawn[row * num : (row + 1) * num]
    return np.stack(found, axis=1)


def mixed(
    z: Float[np.ndarray, "k d"], weights: Float[np.ndarray, " k"], linear: bool = False
) -> Float[np.ndarray, " d"]:
    """Returns the mixture of raw embeddings z_i.

    Its direction is the mean of theirs, on the sphere or (`linear`) the normalized arithmetic one.
    Its length is the weighted mean of their lengths: an "l2" bundle takes unit vectors anyway,
    and one that standardizes sees a length that its images have. Lengths do not act as weights,
    since those of the prior's z_i are about 1 in an "l2" bundle, and those of images are not.

    Raises:
        UserError: the directions cancel out.
    """
    if np.count_nonzero(weights) == 1:
        return z[np.argmax(weights)]
    try:
        direction = (linear_mean if linear else spherical_mean)(z, weights)
    except ValueError as error:
        raise UserError(f"these items have no mean: {error}; change a weight") from error
    length = weights @ np.linalg.norm(np.asarray(z, np.float64), axis=1)
    return (length * direction).astype(np.float32)


def mix(
    model: Bundle,
    items: Sequence[Item] | Item,
    *,
    weights: Sequence[Sequence[Weight]] | np.ndarray | None = None,
    negative: Sequence[Item] | Item = (),
    linear: bool = False,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Mixes captions and images: the weighted mean of their z_i, decoded with the empty caption.

    A caption's z_i comes from the prior, anew for each draw, an image's from the image tower. Their
    directions are averaged on the sphere, and so are their lengths: of two items of equal length
    the mixture is slerp(z_1, z_2, w_2 / (w_1 + w_2)), as in `interpolate` (unCLIP §3.2).

    Args:
        model: a bundle with a CLIP, a decoder and, for captions, the prior that is asked for.
        items: captions and RGB images [h, w, 3] (uint8, or floats in [-1, 1]), each of weight 1, or
            pairs (caption or image, weight). Weights are relative: from 0, not all 0.
        weights: one mixture a row, with a weight for each item: m mixtures of the same draws, which
            share embeddings and noise; None is the items' own.
        negative: items whose mean takes the place of the null embedding in guidance.
        linear: takes the arithmetic mean of the directions, normalized.
        key: root key, a scalar `jax.random.key(seed)`; default: the key of seed 0.
        num: draws, from 1.
        progress: called as progress(stage, steps done, steps of the stage).
        settings: fields of `SampleSettings`, but for `negative`.

    Returns:
        uint8 [num * m, size, size, 3], grouped by draw.

    Raises:
        UserError: no item, an empty caption, weights that are out of range, directions that cancel
            out, `negative` without guidance, or a setting that is unknown or out of range.
    """
    mixture = make_mixture(items, weights, negative=negative, linear=linear)
    chosen = settings_of(SampleSettings, "mix", settings)
    plan = resolve_mix(model, mixture, chosen)
    return draw_mixtures(model, mixture, root_of(key), plan, num=num, monitor=Monitor(progress))
