"""Inpainting from a caption: captions -> z_i -> RePaint in the decoder.

z_i comes from the prior, as in `sample`; the caption is of the whole image. Kept pixels are exactly
those of the input: at the decoder's size while it samples, at the final size in the end.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.batching import map_batches
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys
from unclip_jax.core.trees import take
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data.images import to_float, to_uint8
from unclip_jax.diffusion.inpainting import repaint_along, repaint_transitions
from unclip_jax.diffusion.samplers import SAMPLERS
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.diffusion.timesteps import sampling_steps
from unclip_jax.models.clip import Fit
from unclip_jax.sampling import parallel, programs
from unclip_jax.sampling.arguments import check_num
from unclip_jax.sampling.latents import squares
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.pipeline import encode_captions, make_pipeline, run_pipeline
from unclip_jax.sampling.programs import ProgramKey, run_in_parts
from unclip_jax.sampling.settings import (
    Plan,
    SampleSettings,
    decoder_size,
    diffused_decoder,
    num_steps,
    override,
    resolve,
)
from unclip_jax.sampling.stage_sampler import Sampler, StageSampler, require_finite

JUMP, RESAMPLES = 10, 5
"""Levels gone back at a time, and times each stretch is denoised: RePaint's are 10 and 10."""

FILL_STEPS = 40
"""Levels of DDIM unless the call says how many, where the bundle has fewer for DPM-Solver++."""


@dataclasses.dataclass(frozen=True)
class Canvas:
    """The images and masks of an inpainting call, for n images.

    Attributes:
        images: the given images at the final size.
        fill: True where pixels are inpainted.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    fill: Bool[np.ndarray, "n s s"]

    def hidden(self) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the images with a gray checkerboard over what is inpainted."""
        side = self.images.shape[1]
        squares_of = np.arange(side) * 16 // side
        gray = np.where((squares_of[:, None] + squares_of[None]) % 2, 160, 200).astype(np.uint8)
        ground = np.broadcast_to(gray[None, :, :, None], self.images.shape)
        return np.where(self.fill[..., None], ground, self.images)

    def small(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images in [-1, 1] and the masks at the decoder's size.

        A pixel is inpainted at the decoder's size if any pixel that it covers is.
        """
        return to_float(squares(self.images, size, "squash")), any_in_block(self.fill, size)


def any_in_block(mask: Bool[np.ndarray, "n h w"], size: int) -> Bool[np.ndarray, "n size size"]:
    """Brings masks to squares: True where any True pixel overlaps."""

    def blocks(side: int) -> list[tuple[int, int]]:
        return [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]

    rows = np.stack([mask[:, a:b].any(axis=1) for a, b in blocks(mask.shape[1])], axis=1)
    return np.stack([rows[:, :, a:b].any(axis=2) for a, b in blocks(mask.shape[2])], axis=2)


def fit_mask(mask: Bool[np.ndarray, "h w"], size: int, fit: Fit) -> Bool[np.ndarray, "size size"]:
    """Brings a mask to the square that `squares` makes of its image; padding is kept."""
    height, width = mask.shape
    if fit == "pad":
        side = max(mask.shape)
        padded = np.zeros((side, side), bool)
        top, left = (side - height) // 2, (side - width) // 2
        padded[top : top + height, left : left + width] = mask
        mask = padded
    elif fit == "center_crop":
        side = min(mask.shape)
        top, left = round((height - side) * 0.5), round((width - side) * 0.5)
        mask = mask[top : top + side, left : left + side]
    return any_in_block(mask[None], size)[0]


def make_canvas(
    images: Sequence[np.ndarray] | np.ndarray | Array,
    masks: Sequence[np.ndarray] | np.ndarray,
    size: int,
    fit: Fit,
) -> Canvas:
    """Brings images and masks (True = fill) to squares of the final size; see `image_fit`."""
    if len(masks) != len(images) or any(np.ndim(mask) != 2 for mask in masks):
        raise UserError(f"masks must be one array [h, w] for each of the {len(images)} images")
    fitted = []
    for image, mask in zip(images, masks, strict=True):
        if mask.shape != np.shape(image)[:2]:
            height, width = np.shape(image)[:2]
            raise UserError(
                f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, the image {width} x "
                f"{height}; they must agree"
            )
        if not mask.any():
            raise UserError("the mask fills nothing: its white (or transparent) part is filled")
        fitted.append(fit_mask(mask, size, fit))
        if not fitted[-1].any():
            raise UserError(
                "the mask fills nothing of the image's middle square, which is all that this "
                "model sees (its CLIP crops); crop image and mask to a square yourself"
            )
    return Canvas(squares(images, size, fit), np.stack(fitted))


@functools.lru_cache(maxsize=32)
def _fill_program(program: ProgramKey) -> Callable[..., Array]:
    def fill(bound: Any, transitions: Any, inputs: Any, span: Any, x: Any) -> Array:
        params, uncond_text, scale = bound
        cond, keys, known, mask = inputs
        diffusion = program.spec.diffusion
        schedule = make_schedule(diffusion.schedule, diffusion.num_steps)
        denoise = programs.program_denoiser(program, params, cond, uncond_text, scale)
        noise = programs.example_noise(program, keys)
        start, count = span
        fresh = programs.initial(program, noise, known.shape, None)
        x = jnp.where(start == 0, fresh, x)
        where = jnp.broadcast_to(mask[..., None], known.shape)
        span = (start, start + count)
        return repaint_along(denoise, x, known, where, transitions, schedule, noise, span=span)

    return parallel.over_devices(fill, shared=(0, 1, 3), key=("inpaint", program))


class RepaintSampler(Sampler):
    """The decoder in a pipeline that keeps a part of its images (RePaint)."""

    def __init__(
        self,
        decoder: StageSampler,
        known: Float[np.ndarray, "n h w 3"],
        fill: Bool[np.ndarray, "n h w"],
        resamples: int,
        monitor: Monitor,
    ):
        """Binds the images to the decoder.

        Args:
            known: images in [-1, 1] at the decoder's size; what `fill` leaves out is kept.
            resamples: times each stretch of levels is denoised; 1 is plain masked replacement.
        """
        self.gives, self.uncond_caption = decoder.gives, decoder.uncond_caption
        self._decoder, self._known, self._fill = decoder, known, fill
        self._resamples, self._monitor = resamples, monitor

    def __call__(
        self,
        cond: Cond,
        keys: Key[Array, " n"],
        latent: Array | np.ndarray | None = None,
        *,
        uncond_text: TextFeatures | None = None,
    ) -> Float[np.ndarray, "n h w 3"]:
        """Returns images in [-1, 1] that agree with the known ones wherever nothing is filled."""
        decoder, name = self._decoder, self._decoder.name
        (net,) = decoder.nets
        plan = programs.sampling_plan(net.program)
        transitions = repaint_transitions(
            plan.steps, plan.schedule.num_steps, jump=JUMP, resamples=self._resamples
        )
        split = parallel.split((decoder.read(cond), keys, self._known, self._fill))
        scale = np.float32(decoder.sampling.guidance)
        bound = parallel.placed_params(net.stage), decoder.read_text(uncond_text), scale
        steps = functools.partial(_fill_program(net.program), bound, transitions, split)
        report = self._monitor.report(name, len(transitions))
        work = functools.partial(run_in_parts, steps, split[2], len(transitions), report)
        made = parallel.join(self._monitor.timed(name, work), len(self._known))
        return require_finite(made, name)


def resolve_filling(model: Bundle, settings: SampleSettings) -> Plan:
    """Fills unset settings as `resolve` does, for the steps of `inpaint`: RePaint's, DDIM's.

    They are guided at every level. A bundle that samples by a solver of higher order may have too
    few steps for DDIM: then there are `FILL_STEPS` unless the call says how many.
    """
    plan = resolve(model, settings)
    limit = model.stage(diffused_decoder(model)).spec.diffusion.num_steps
    own = plan.decoder_sampling
    if settings.steps is None and SAMPLERS[own.sampler].order > 1 and num_steps(own) < FILL_STEPS:
        levels = sampling_steps(own, limit)
        steps = min(FILL_STEPS, int(levels[0] - levels[-1]) + 1)
        own = override(own, "", limit=limit, steps=steps)
    ddim = dataclasses.replace(own, sampler="ddim", guidance_interval=None)
    return dataclasses.replace(plan, decoder_sampling=ddim)


def inpaint(
    model: Bundle,
    canvas: Canvas,
    prompts: Sequence[str],
    key: Key[Array, ""],
    plan: Plan,
    *,
    num: int = 1,
    resamples: int = RESAMPLES,
    monitor: Monitor,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Fills each image `num` times, grouped by image; kept pixels are the canvas's own.

    Args:
        prompts: a caption per image, of the whole of it.
        plan: of `resolve_filling`.
        resamples: times each stretch of levels is denoised; 1 is plain masked replacement.
    """
    check_num(num)
    check_num(resamples, "resamples")
    if len(prompts) != len(canvas.images):
        raise UserError(f"{len(prompts)} prompts for {len(canvas.images)} images")
    rows = np.repeat(np.arange(len(prompts)), num)
    keys = image_keys(key, rows, np.tile(np.arange(num), len(prompts)))
    text, uncond = encode_captions(model, [prompts[i] for i in rows], plan, monitor)
    known, fill = canvas.small(decoder_size(model))
    samplers = make_pipeline(model, plan, monitor)

    def draw(chosen: list[int]) -> UInt8[np.ndarray, "n s s 3"]:
        kept = take((known, fill), rows[chosen])

        def filling(sampler: Sampler) -> Sampler:
            is_decoder = isinstance(sampler, StageSampler) and sampler.kind == "decoder"
            return RepaintSampler(sampler, *kept, resamples, monitor) if is_decoder else sampler

        cond, own = Cond(text=take(text, chosen)), take(keys, chosen)
        return to_uint8(run_pipeline([filling(s) for s in samplers], cond, own, uncond))

    made = map_batches(draw, range(len(rows)), parallel.device_batch(len(rows)))
    return composite(made, canvas, rows)


def composite(
    made: UInt8[np.ndarray, "m s s 3"], canvas: Canvas, rows: np.ndarray
) -> UInt8[np.ndarray, "m s s 3"]:
    """Puts the canvas's own pixels back wherever nothing was to be filled."""
    return np.where(canvas.fill[rows][..., None], made, canvas.images[rows])
