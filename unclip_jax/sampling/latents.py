"""The bipartite latent of an image (unCLIP §3): z_i, and x_T by inverting DDIM of the decoder.

z_i is the CLIP image embedding. x_T comes from the decoder's own deterministic sampler run upwards,
given z_i, the empty caption and no guidance. DDIM down the same levels rebuilds the image.

The levels are evenly spaced over the range that the bundle's own sampling visits, and the move to
the noisiest is left out (Dhariwal & Nichol 2021, appendix F). A network that is not sampled below
some level is not inverted through it either: there latents leave the normal distribution.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle, CascadeStep
from unclip_jax.core.batching import map_batches
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import take
from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.data.images import to_float, to_square, to_uint8
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.inversion import inversion_transitions, invert_along
from unclip_jax.diffusion.samplers import SAMPLERS
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.models.clip import Fit
from unclip_jax.sampling import parallel, programs
from unclip_jax.sampling.encode import check_images, encode_text
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.pipeline import image_samplers, run_pipeline
from unclip_jax.sampling.programs import ProgramKey, run_in_parts
from unclip_jax.sampling.settings import (
    cascade_to,
    check_bundle,
    check_dtype,
    decoder_size,
    decoder_stage,
    diffused_decoder,
    num_steps,
    override,
    spread_levels,
    spread_list,
    stage_sampling,
)
from unclip_jax.sampling.stage_sampler import StageSampler, require_finite

INVERT_STEPS = 100
"""Levels of an inversion. 250, as in Dhariwal & Nichol 2021, rebuilds the shipped model's held-out
images 0.4 dB closer, 40 levels 0.8 dB less close (docs/evals/inversion.md)."""


@dataclasses.dataclass(frozen=True)
class LatentSettings:
    """Settings of `vary`, `interpolate`, `edit` and `reconstruct`.

    Decoding starts from an inverted latent, but for `reconstruct` and `interpolate` with noise
    "fixed", which start from fresh noise.

    Attributes:
        size: side of the square image in pixels: the decoder's own or one of the cascade's; None =
            the bundle's.
        guidance: classifier-free guidance scale of decoding, 0 to 1000. None = 1 (off) from an
            inverted latent, since guidance would change the image that is to be rebuilt; the
            bundle's from fresh noise.
        steps: steps of decoding, by DDIM. None = those of the inversion from an inverted latent;
            the bundle's from fresh noise, by its own sampler where that draws no noise.
        invert_steps: timesteps of the inversion, from 3, the noisiest of which is left out
            (Dhariwal & Nichol 2021, appendix F); default 100.
        dtype: of the network's arithmetic, "float32" or "bfloat16"; diffusion itself is always
            float32.
    """

    size: int | None = None
    guidance: float | None = None
    steps: int | None = None
    invert_steps: int = INVERT_STEPS
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class LatentPlan:
    """Settings of a manipulation with every value filled in.

    Attributes:
        invert: the levels of the inversion, the noisiest first, and the limits of x_0.
        decode: DDIM from the inversion's top level, or from fresh noise.
        inverted: whether decoding starts from an inverted latent.
    """

    size: int
    cascade: tuple[CascadeStep, ...]
    invert: SamplingConfig
    decode: SamplingConfig
    inverted: bool
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON values, as the commands report them."""
        return {
            "size": self.size,
            "guidance": self.decode.guidance,
            "sampler": self.decode.sampler,
            "eta": self.decode.eta,
            "steps": num_steps(self.decode),
            "invert_steps": num_steps(self.invert) if self.inverted else None,
            "dtype": self.dtype,
        }


def resolve_latents(
    model: Bundle, settings: LatentSettings, *, eta: float = 0.0, inverted: bool = True
) -> LatentPlan:
    """Fills unset settings and checks the others against the bundle."""
    check_bundle(model)
    check_dtype(settings.dtype)
    if not 0.0 <= eta <= 1.0:
        raise UserError(f"eta must lie in 0..1, not {eta}")
    size, cascade = cascade_to(model, settings.size)
    decoder = diffused_decoder(model)
    own, limit = stage_sampling(model, decoder), model.stage(decoder).spec.diffusion.num_steps
    levels = [int(t) for t in sampling_steps(own, limit)]
    climb = spread_levels(levels[0], levels[-1], settings.invert_steps, "invert_steps", least=3)
    invert = dataclasses.replace(own, sampler="ddim", eta=0.0, guidance=1.0, step_list=climb)
    if inverted:
        descent = climb[1:]
        if settings.steps is not None:
            descent = spread_list(descent, settings.steps, "steps", least=2)
        base = dataclasses.replace(invert, step_list=descent)
        decode = override(base, "", guidance=settings.guidance, eta=eta)
    else:
        quiet = dataclasses.replace(own, eta=0.0)
        draws_noise = eta > 0.0 or SAMPLERS[own.sampler].is_stochastic(quiet)
        sampler = "ddim" if draws_noise else own.sampler
        given = {"guidance": settings.guidance, "steps": settings.steps, "eta": eta}
        decode = override(own, "", limit=limit, sampler=sampler, **given)
    return LatentPlan(size, cascade, invert, decode, inverted, settings.dtype)


def image_fit(model: Bundle) -> Fit:
    """Returns how a bundle makes images square: as its CLIP does.

    The decoder saw in training the very square that z_i is of, so that x_T's is fitted likewise.
    """
    return model.clip.spec.model.resize


def squares(
    images: Sequence[np.ndarray] | np.ndarray | Array, size: int, fit: Fit
) -> UInt8[np.ndarray, "n size size 3"]:
    """Brings images of any shape, uint8 or floats in [-1, 1], to squares; see `image_fit`."""
    fitted = []
    for image in images:
        pixels = np.asarray(image)
        check_images(pixels[None])
        if pixels.dtype != np.uint8:
            pixels = to_uint8(pixels)
        fitted.append(to_square(pixels, size, crop="center" if fit == "center_crop" else fit))
    if not fitted:
        raise UserError("no image given")
    return np.stack(fitted)


def empty_caption(model: Bundle, dtype: str) -> TextFeatures | None:
    """Returns the encoded empty caption, for one example; None for a decoder without text."""
    if not model.stage(decoder_stage(model)).spec.model.reads_text:
        return None
    return encode_text(model, [""], dtype=dtype)


def decoder_cond(image_emb: Float[np.ndarray, "n d"], empty: TextFeatures | None) -> Cond:
    """Returns the condition of the decoder: these z_i and the empty caption."""
    n = len(image_emb)
    text = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), n, axis=0), empty)
    return Cond(image_emb=np.asarray(image_emb, np.float32), text=text)


@functools.lru_cache(maxsize=32)
def _invert_program(program: ProgramKey) -> Callable[..., Array]:
    def climb(params: Params, cond: Cond, transitions: Any, span: Any, x: Any) -> Array:
        diffusion = program.spec.diffusion
        schedule = make_schedule(diffusion.schedule, diffusion.num_steps)
        denoise = programs.program_denoiser(program, params, cond, None, 1.0)
        start, count = span
        return invert_along(denoise, x, transitions, schedule, span=(start, start + count))

    return parallel.over_devices(climb, shared=(0, 2, 3), key=("invert", program))


def invert(
    model: Bundle,
    images: Sequence[np.ndarray] | np.ndarray | Array,
    image_emb: Float[np.ndarray, "n d"],
    plan: LatentPlan,
    monitor: Monitor,
) -> Float[np.ndarray, "n h w 3"]:
    """Returns the latents x_T of images, at the level of the plan's second-noisiest step."""
    decoder = StageSampler(model, decoder_stage(model), plan.invert, plan.dtype)
    (net,) = decoder.nets
    x = to_float(squares(images, decoder_size(model), image_fit(model)))
    empty = empty_caption(model, plan.dtype)
    num_steps = net.stage.spec.diffusion.num_steps
    transitions = inversion_transitions(plan.invert.step_list, num_steps, skip_last=True)
    program = functools.partial(_invert_program(net.program), parallel.placed_params(net.stage))

    def climb(rows: list[int]) -> Float[np.ndarray, "n h w 3"]:
        cond = decoder.read(decoder_cond(image_emb[rows], empty))
        cond, start = parallel.split((cond, x[rows]))
        steps = functools.partial(program, cond, transitions)
        report = monitor.report("inversion", len(transitions))
        work = functools.partial(run_in_parts, steps, start, len(transitions), report)
        latent = parallel.join(monitor.timed("inversion", work), len(rows))
        return require_finite(latent, "inversion")

    return map_batches(climb, range(len(x)), parallel.device_batch(len(x)))


def decode(
    model: Bundle,
    image_emb: Float[np.ndarray, "n d"],
    keys: Key[Array, " n"],
    plan: LatentPlan,
    *,
    latent: Float[np.ndarray, "n h w 3"] | None = None,
    monitor: Monitor,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Draws the images of embeddings with the empty caption, upsampled to the plan's size.

    Args:
        image_emb: raw z_i.
        keys: a key per image, for x_T if it is not given, eta's noise and the upsamplers'.
        latent: x_T, of `invert`.
    """
    empty = empty_caption(model, plan.dtype)
    samplers = image_samplers(model, plan.decode, plan.cascade, plan.dtype, monitor=monitor)

    def draw(rows: list[int]) -> UInt8[np.ndarray, "n s s 3"]:
        index = np.asarray(rows)
        cond, x_init = decoder_cond(image_emb[index], empty), take(latent, index)
        return to_uint8(run_pipeline(samplers, cond, keys[index], {"": empty}, x_init))

    return map_batches(draw, range(len(image_emb)), parallel.device_batch(len(image_emb)))
