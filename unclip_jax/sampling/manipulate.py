"""Image manipulations (unCLIP §3 and §4): vary, interpolate, edit, reconstruct.

All are functions of (bundle, images, key, settings). Images are numbered; the key of draw j of
image i is that of draw j of prompt i in `sample`, so that more images or draws change no earlier
one, and the number of devices none.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys
from unclip_jax.core.vectors import unit
from unclip_jax.models.pca import Pca, keep
from unclip_jax.sampling.arguments import check_num
from unclip_jax.sampling.encode import encode_images, encode_text
from unclip_jax.sampling.latents import LatentPlan, decode, invert
from unclip_jax.sampling.monitor import Monitor

Images = Sequence[np.ndarray] | np.ndarray | Array
NOISES = ("slerp", "fixed")
PAPER_DIMS = (20, 30, 40, 80, 120, 160, 200, 320)
"""The numbers of components in the paper's figure 7."""
FRAME_LIMIT = 1000
_PARALLEL = 1e-6  # sine of the angle below which two directions count as one line


def slerp(
    a: Float[Array | np.ndarray, " n *d"],
    b: Float[Array | np.ndarray, " n *d"],
    theta: Float[Array | np.ndarray, " n"],
) -> Float[Array, " n *d"]:
    """Spherical interpolation of n pairs, each at its own theta (Shoemake 1985; unCLIP §3.2).

        [sin((1 - theta) w) a + sin(theta w) b] / sin w,   w = the angle between a and b

    The ends are a and b exactly. Parallel vectors are interpolated linearly. Antipodal ones have no
    shortest arc: they go through the direction that is left of the axis along which a is smallest
    once its part along a is taken out, their length changing linearly.
    """
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    theta = jnp.asarray(theta, jnp.float32)
    flat_a, flat_b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
    t = theta[:, None]
    long_a, long_b = _length(flat_a), _length(flat_b)
    u, v = flat_a / jnp.maximum(long_a, 1e-20), flat_b / jnp.maximum(long_b, 1e-20)
    w = 2.0 * jnp.arctan2(_length(u - v), _length(u + v))
    sine = jnp.sin(w)
    safe = jnp.where(sine < _PARALLEL, 1.0, sine)
    arc = (jnp.sin((1.0 - t) * w) * flat_a + jnp.sin(t * w) * flat_b) / safe
    line = (1.0 - t) * flat_a + t * flat_b
    aside = jnp.eye(u.shape[1], dtype=u.dtype)[jnp.argmin(jnp.abs(u), axis=1)]
    aside = aside - (aside * u).sum(1, keepdims=True) * u
    aside = aside / jnp.maximum(_length(aside), 1e-20)
    around = jnp.cos(jnp.pi * t) * u + jnp.sin(jnp.pi * t) * aside
    around = around * ((1.0 - t) * long_a + t * long_b)
    opposite = w > 0.5 * jnp.pi
    mixed = jnp.where(sine < _PARALLEL, jnp.where(opposite, around, line), arc)
    mixed = jnp.where(t == 0.0, flat_a, jnp.where(t == 1.0, flat_b, mixed))
    return mixed.reshape(a.shape)


def _length(x: Float[Array, "n d"]) -> Float[Array, "n 1"]:
    return jnp.sqrt(jnp.square(x).sum(axis=1, keepdims=True))


def text_direction(
    text_emb: Float[np.ndarray, "n d"], source_emb: Float[np.ndarray, "n d"] | None
) -> Float[np.ndarray, "n d"]:
    """Returns z_d = (z_t - z_t0) / |z_t - z_t0| of unit text embeddings (unCLIP §3.3).

    Args:
        source_emb: z_t0, the image's caption or a dummy; None leaves it out.
    """
    difference = unit(np.asarray(text_emb))
    if source_emb is not None:
        difference = difference - unit(np.asarray(source_emb))
    length = np.linalg.norm(difference, axis=1)
    if (length < 1e-5).any():
        raise UserError("both texts have the same CLIP embedding; --to and --from must differ")
    return difference / length[:, None]


@dataclasses.dataclass(frozen=True)
class Inverted:
    """Images as the decoder's bipartite latent.

    Attributes:
        image_emb: raw z_i.
        latent: x_T at the second-noisiest level of the inversion.
    """

    image_emb: Float[np.ndarray, "n d"]
    latent: Float[np.ndarray, "n h w 3"]


def encode(model: Bundle, images: Images, plan: LatentPlan, monitor: Monitor) -> Inverted:
    """Returns (z_i, x_T) of images."""
    image_emb = monitor.timed("clip", lambda: encode_images(model, images, dtype=plan.dtype))
    return Inverted(image_emb, invert(model, images, image_emb, plan, monitor))


def vary(
    model: Bundle,
    images: Images,
    key: Key[Array, ""],
    plan: LatentPlan,
    *,
    num: int = 1,
    monitor: Monitor,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Samples `num` variations of each image with the plan's eta, grouped by image (§3.1)."""
    check_num(num)
    source = encode(model, images, plan, monitor)
    rows = np.repeat(np.arange(len(source.latent)), num)
    draws = np.tile(np.arange(num), len(source.latent))
    keys = image_keys(key, rows, draws)
    latent = source.latent[rows]
    return decode(model, source.image_emb[rows], keys, plan, latent=latent, monitor=monitor)


def interpolate(
    model: Bundle,
    pair: tuple[Images, Images],
    key: Key[Array, ""],
    plan: LatentPlan,
    *,
    frames: int = 8,
    num: int = 1,
    monitor: Monitor,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Interpolates from each first image to its second in `frames` images (§3.2).

    The result is grouped by pair, then by path.

    From inverted latents (`plan.inverted`) x_T is interpolated like z_i, and the ends rebuild the
    images: one path per pair. Else x_T is the same fresh noise along a path: `num` paths per pair.
    """
    _check_frames(frames)
    if plan.inverted and num != 1:
        raise UserError("interpolated noise gives one path: use --num 1 or --noise fixed")
    first, second = pair
    if len(first) != len(second):
        raise UserError(f"{len(first)} first and {len(second)} second images do not pair up")
    z = monitor.timed("clip", lambda: [encode_images(model, p, dtype=plan.dtype) for p in pair])
    rows = np.repeat(np.arange(len(first)), num * frames)
    draws = np.tile(np.repeat(np.arange(num), frames), len(first))
    theta = np.tile(np.linspace(0.0, 1.0, frames, dtype=np.float32), len(first) * num)
    latent = None
    if plan.inverted:
        ends = [invert(model, p, e, plan, monitor) for p, e in zip(pair, z, strict=True)]
        latent = np.asarray(slerp(ends[0][rows], ends[1][rows], theta))
    image_emb = np.asarray(slerp(z[0][rows], z[1][rows], theta))
    keys = image_keys(key, rows, draws)
    return decode(model, image_emb, keys, plan, latent=latent, monitor=monitor)


def edited_embeddings(
    model: Bundle,
    image_emb: Float[np.ndarray, "n d"],
    to: Sequence[str],
    source: Sequence[str] | None,
    thetas: Float[np.ndarray, " frames"],
    dtype: str = "float32",
) -> Float[np.ndarray, "m d"]:
    """Returns slerp(z_i, |z_i| z_d, theta) for every theta, grouped by image (unCLIP §3.3)."""
    z_t = encode_text(model, list(to), dtype=dtype).text_emb
    z_0 = None if source is None else encode_text(model, list(source), dtype=dtype).text_emb
    direction = text_direction(z_t, z_0)
    direction = direction * np.linalg.norm(image_emb, axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(image_emb)), len(thetas))
    theta = np.tile(np.asarray(thetas, np.float32), len(image_emb))
    return np.asarray(slerp(image_emb[rows], direction[rows], theta))


def edit(
    model: Bundle,
    images: Images,
    to: Sequence[str],
    source: Sequence[str] | None,
    key: Key[Array, ""],
    plan: LatentPlan,
    *,
    thetas: Float[np.ndarray, " frames"],
    monitor: Monitor,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Edits each image toward a text at every theta, grouped by image; x_T is fixed (§3.3).

    Args:
        to: a caption per image.
        source: a caption per image; without it z_d is the text embedding itself.
    """
    _check_frames(len(thetas))
    inverted = encode(model, images, plan, monitor)
    for name, captions in (("to", to), ("from", source)):
        if captions is not None and len(captions) != len(inverted.latent):
            raise UserError(f"{len(captions)} texts for --{name} and {len(inverted.latent)} images")
    image_emb = edited_embeddings(model, inverted.image_emb, to, source, thetas, plan.dtype)
    rows = np.repeat(np.arange(len(inverted.latent)), len(thetas))
    keys = image_keys(key, rows, np.zeros_like(rows))
    return decode(model, image_emb, keys, plan, latent=inverted.latent[rows], monitor=monitor)


def edit_thetas(frames: int, max_theta: float) -> Float[np.ndarray, " frames"]:
    """Returns theta rising linearly from 0 to `max_theta`; one frame is the last alone."""
    _check_frames(frames)
    if not 0.0 <= max_theta <= 1.0:
        raise UserError(f"max_theta must lie in 0..1, not {max_theta}")
    return np.linspace(0.0, max_theta, frames) if frames > 1 else np.asarray([max_theta])


def reconstruct(
    model: Bundle,
    images: Images,
    key: Key[Array, ""],
    plan: LatentPlan,
    *,
    pca: Pca,
    dims: Sequence[int],
    monitor: Monitor,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Decodes each image from the first principal components of its z_i (§4).

    The result is grouped by image, which has the same noise for all numbers of components.
    """
    image_emb = monitor.timed("clip", lambda: encode_images(model, images, dtype=plan.dtype))
    if image_emb.shape[1] != pca.width:
        raise UserError(
            f"the PCA is of embeddings of width {pca.width}; bundle {model.name!r} has "
            f"{image_emb.shape[1]}"
        )
    length = np.linalg.norm(image_emb, axis=1, keepdims=True)  # keep() works at unit length
    kept = np.stack([np.asarray(keep(pca, image_emb, count)) * length for count in dims], axis=1)
    rows = np.repeat(np.arange(len(image_emb)), len(dims))
    keys = image_keys(key, rows, np.zeros_like(rows))
    return decode(model, kept.reshape(-1, kept.shape[-1]), keys, plan, monitor=monitor)


def usable_dims(dims: Sequence[int], pca: Pca) -> tuple[int, ...]:
    """Clips numbers of components to those that exist and drops duplicates, in order."""
    if not dims or min(dims) < 0:
        raise UserError(f"dims must be numbers of components from 0 on, not {list(dims)}")
    return tuple(dict.fromkeys(min(int(count), len(pca.eigenvalues)) for count in dims))


def check_noise(noise: str) -> str:
    """Returns the kind of an interpolation's noise; refuses unknown ones."""
    if noise not in NOISES:
        raise UserError(f"noise must be one of {', '.join(NOISES)}, not {noise!r}")
    return noise


def _check_frames(frames: int) -> None:
    if not 1 <= frames <= FRAME_LIMIT:
        raise UserError(f"frames must lie in 1..{FRAME_LIMIT}, not {frames}")
