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
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.data.images import to_float, to_square, to_uint8
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.diffusion.samplers import inversion_moves, invert_along
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.models.clip import Fit
from unclip_jax.sampling import parallel, runs, stages
from unclip_jax.sampling.encode import (
    check_images,
    encode_text,
    placed_params,
    with_own_tokens,
)
from unclip_jax.sampling.runner import BATCH_LIMIT, StageRunner, finite
from unclip_jax.sampling.settings import (
    DTYPES,
    cascade_to,
    decoder_size,
    num_steps,
    override,
    spread_levels,
    spread_list,
    stage_sampling,
)

INVERT_STEPS = 100
"""Levels of an inversion. 250, as in Dhariwal & Nichol 2021, rebuilds the shipped model's held-out
pictures 0.4 dB closer, 40 levels 0.8 dB less close (docs/evals/inversion.md)."""


@dataclasses.dataclass(frozen=True)
class LatentSettings:
    """The choices of a manipulation; None = the bundle's, or as said.

    Attributes:
        size: pixels of the square image: the decoder's own size or one of the cascade's.
        guidance: of decoding. None = 1 (off) from an inverted latent, since guidance would change
            the image that is to be rebuilt; the bundle's from fresh noise.
        steps: of decoding. None = the inversion's own from an inverted latent; the bundle's from
            fresh noise.
        invert_steps: levels of the inversion, the noisiest of which is left out.
        dtype: of the network's arithmetic; diffusion itself is always float32.
    """

    size: int | None = None
    guidance: float | None = None
    steps: int | None = None
    invert_steps: int = INVERT_STEPS
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class LatentPlan:
    """Settings with nothing left open.

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
        """Returns the plan's settings as the command line reports them."""
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
    """Fills the open settings and checks the others against the bundle."""
    if settings.dtype not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}, not {settings.dtype!r}")
    if not 0.0 <= eta <= 1.0:
        raise UserError(f"eta must lie in 0..1, not {eta}")
    size, cascade = cascade_to(model, settings.size)
    own = stage_sampling(model, "decoder")
    limit = model.stage("decoder").spec.diffusion.num_steps
    levels = [int(t) for t in sampling_steps(own, limit)]
    climb = spread_levels(levels[0], levels[-1], settings.invert_steps, "invert_steps", least=3)
    invert = dataclasses.replace(own, sampler="ddim", eta=0.0, guidance=1.0, step_list=climb)
    if inverted:
        descent = climb[1:]
        if settings.steps is not None:
            descent = spread_list(descent, settings.steps, "steps", least=2)
        base = dataclasses.replace(invert, eta=float(eta), step_list=descent)
        decode = override(base, "", guidance=settings.guidance)
    else:
        chosen = override(
            own, "", limit=limit, guidance=settings.guidance, steps=settings.steps, sampler="ddim"
        )
        decode = dataclasses.replace(chosen, eta=float(eta))
    return LatentPlan(size, cascade, invert, decode, inverted, settings.dtype)


def image_fit(model: Bundle) -> Fit:
    """Returns how a bundle makes squares of images: as its CLIP does.

    The decoder saw in training the very square that z_i is of, so that x_T's is fitted likewise.
    """
    return model.stage("clip").spec.model.resize


def squares(
    images: Sequence[np.ndarray] | np.ndarray | Array, size: int, fit: Fit
) -> UInt8[np.ndarray, "n size size 3"]:
    """Brings images of any shape, uint8 or floats in [-1, 1], to squares; see `image_fit`."""
    made = []
    for image in images:
        pixels = np.asarray(image)
        check_images(pixels[None])
        if pixels.dtype != np.uint8:
            pixels = to_uint8(pixels)
        made.append(to_square(pixels, size, crop="center" if fit == "center_crop" else fit))
    if not made:
        raise UserError("no image given")
    return np.stack(made)


def empty_captions(model: Bundle, dtype: str) -> TextFeatures | None:
    """Returns the empty caption as the decoder reads it, for one example; None without text."""
    if not model.stage("decoder").spec.model.reads_text:
        return None
    return with_own_tokens(model, encode_text(model, [""], dtype=dtype), [""], "decoder")


def decoder_cond(image_emb: Float[np.ndarray, "n d"], empty: TextFeatures | None) -> Cond:
    """Returns the decoder's condition: these z_i and the empty caption."""
    n = len(image_emb)
    text = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), n, axis=0), empty)
    return Cond(image_emb=np.asarray(image_emb, np.float32), text=text)


@functools.lru_cache(maxsize=32)
def _invert_program(static: runs.Static) -> Callable[..., Array]:
    def climb(params: Params, span: Any, moves: Any, cond: Cond, x: Any) -> Array:
        diffusion = static.spec.diffusion
        schedule = make_schedule(diffusion.schedule, diffusion.num_steps)
        denoise = stages.bound_denoiser(static, params, cond, None, 1.0)
        return invert_along(denoise, x, moves, schedule, span=span)

    return parallel.over_devices(climb, shared=(0, 1, 2))


def invert(
    model: Bundle,
    images: Sequence[np.ndarray] | np.ndarray | Array,
    image_emb: Float[np.ndarray, "n d"],
    plan: LatentPlan,
    runner: StageRunner,
) -> Float[np.ndarray, "n h w 3"]:
    """Returns the latents x_T of pictures, at the level of the plan's second-noisiest step."""
    run = runs.single_net(model, "decoder", plan.invert, plan.dtype)
    pixels = squares(images, decoder_size(model), image_fit(model))
    x = to_float(pixels)
    empty = empty_captions(model, plan.dtype)
    limit = model.stage("decoder").spec.diffusion.num_steps
    moves = inversion_moves(plan.invert.step_list, limit, skip_last=True)
    per_device = parallel.batch_per_device(len(x), BATCH_LIMIT)
    size = per_device * parallel.device_count()
    parts = []
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        cond, held = parallel.split((decoder_cond(image_emb[rows], empty), x[rows]), per_device)
        program = functools.partial(_invert_program(run.static), placed_params(run.nets[0][0]))
        report = runner.report("inversion")
        work = functools.partial(follow_moves, program, moves, cond, held, report)
        latent = parallel.join(runner.timed("inversion", work), len(x[rows]))
        parts.append(finite(latent, "inversion"))
    return np.concatenate(parts)


def follow_moves(
    program: Callable[..., Array],
    moves: np.ndarray,
    inputs: Any,
    x: Any,
    report: Callable[[int, int], None] | None,
) -> Any:
    """Runs program((first move, move to stop before), moves, inputs, x) over all of the moves.

    It is one program, called once, or in parts if it is watched.
    """
    if report is not None:
        report(0, len(moves))
    for start, count in stages.chunk_ends(0, len(moves), 1 if report is None else stages.CHUNKS):
        stop = start + count
        x = program((np.int32(start), np.int32(stop)), moves, inputs, x)
        if report is not None:
            jax.block_until_ready(x)
            report(stop, len(moves))
    return x


def decode(
    model: Bundle,
    image_emb: Float[np.ndarray, "n d"],
    keys: Key[Array, " n"],
    plan: LatentPlan,
    *,
    latent: Float[np.ndarray, "n h w 3"] | None = None,
    runner: StageRunner,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Draws the images of embeddings with the empty caption, upsampled to the plan's size.

    Args:
        image_emb: raw z_i.
        keys: a key an image, for x_T if it is not given, eta's noise and the upsamplers'.
        latent: x_T, of `invert`.
    """
    empty = empty_captions(model, plan.dtype)
    run = runs.single_net(model, "decoder", plan.decode, plan.dtype)
    per_device = parallel.batch_per_device(len(image_emb), BATCH_LIMIT)
    size = per_device * parallel.device_count()
    parts = []
    for start in range(0, len(image_emb), size):
        rows = slice(start, start + size)
        cond = decoder_cond(image_emb[rows], empty)
        x_init = None if latent is None else latent[rows]
        images = runner.stage(run, cond, empty, keys[rows], per_device=per_device, latent=x_init)
        images = upsample(model, images, keys[rows], plan, runner, per_device)
        parts.append(to_uint8(images))
    return np.concatenate(parts)


def upsample(
    model: Bundle,
    images: Float[np.ndarray, "n h w 3"],
    keys: Key[Array, " n"],
    plan: Any,
    runner: StageRunner,
    per_device: int,
) -> Float[np.ndarray, "n s s 3"]:
    """Takes the decoder's images through the plan's cascade."""
    for step in plan.cascade:
        run = runs.cascade_run(model, step, plan.dtype)
        images = runner.stage(run, Cond(low_res=images), None, keys, per_device=per_device)
    return images
