"""Filling a masked part of an image from a caption: captions -> z_i -> RePaint in the decoder.

z_i comes from the prior, as in `sample`; the caption says what the whole picture shows. Kept pixels
are those of the input, exactly: of the decoder's size while it draws, and of the final size at the
end.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data.images import to_float, to_uint8
from unclip_jax.diffusion.inpainting import repaint_along, repaint_moves
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.clip import Fit
from unclip_jax.sampling import parallel, runs, stages
from unclip_jax.sampling.encode import placed_params
from unclip_jax.sampling.latents import follow_moves, squares
from unclip_jax.sampling.pipeline import Captions, chain
from unclip_jax.sampling.runner import BATCH_LIMIT, StageRunner, finite, image_keys
from unclip_jax.sampling.settings import Plan, decoder_size

JUMP, RESAMPLES = 10, 5
"""Levels gone back at a time, and times each stretch is denoised: RePaint's are 10 and 10."""


@dataclasses.dataclass(frozen=True)
class Canvas:
    """What is kept and what is filled, for n images.

    Attributes:
        images: the pictures at the final size.
        fill: where pixels of the final size are to be made.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    fill: Bool[np.ndarray, "n s s"]

    def hidden(self) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the pictures with a chequered grey over what is to be filled."""
        side = self.images.shape[1]
        squares_of = np.arange(side) * 16 // side
        grey = np.where((squares_of[:, None] + squares_of[None]) % 2, 160, 200).astype(np.uint8)
        ground = np.broadcast_to(grey[None, :, :, None], self.images.shape)
        return np.where(self.fill[..., None], ground, self.images)

    def small(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pictures in [-1, 1] and the masks at the decoder's size.

        A pixel of the decoder is filled if any pixel that it stands for is.
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
def _fill_program(static: runs.Static) -> Callable[..., Array]:
    def fill(bound: Any, span: Any, moves: Any, inputs: Any, x: Any) -> Array:
        params, empty, scale = bound
        cond, keys, known, mask = inputs
        diffusion = static.spec.diffusion
        schedule = make_schedule(diffusion.schedule, diffusion.num_steps)
        denoise = stages.bound_denoiser(static, params, cond, empty, scale)
        noise = stages.stage_noise(static, keys)
        fresh = stages.initial(static, noise, known.shape, None)
        x = jnp.where(span[0] == 0, fresh, x)
        where = jnp.broadcast_to(mask[..., None], known.shape)
        return repaint_along(denoise, x, known, where, moves, schedule, noise, span=span)

    return parallel.over_devices(fill, shared=(0, 1, 2))


def inpaint(
    model: Bundle,
    canvas: Canvas,
    prompts: Sequence[str],
    key: Key[Array, ""],
    plan: Plan,
    *,
    num: int = 1,
    resamples: int = RESAMPLES,
    runner: StageRunner,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Fills each picture `num` times, picture-major; kept pixels are the canvas's own.

    Args:
        prompts: a caption a picture, of the whole of it.
        resamples: times each stretch of levels is denoised; 1 is plain masked replacement.
    """
    if num < 1 or resamples < 1:
        raise UserError(f"num and resamples must be at least 1, not {num} and {resamples}")
    if len(prompts) != len(canvas.images):
        raise UserError(f"{len(prompts)} prompts for {len(canvas.images)} pictures")
    rows = np.repeat(np.arange(len(prompts)), num)
    keys = image_keys(key, rows, np.tile(np.arange(num), len(prompts)))
    captions = Captions(model, [prompts[i] for i in rows], plan, runner)
    known, fill = canvas.small(decoder_size(model))
    per_device = parallel.batch_per_device(len(rows), BATCH_LIMIT)
    size = per_device * parallel.device_count()
    parts = []
    for start in range(0, len(rows), size):
        chosen = np.arange(start, min(start + size, len(rows)))
        held = known[rows[chosen]], fill[rows[chosen]]

        def stage(run: runs.Run, cond: Cond, empty: TextFeatures | None) -> np.ndarray:
            own = keys[chosen]  # noqa: B023
            if run.name != "decoder":
                return runner.stage(run, cond, empty, own, per_device=per_device)
            return _fill(run, (cond, own, *held), empty, per_device, resamples, runner)  # noqa: B023

        made = chain(model, plan, captions.rows(chosen), stage)
        parts.append(to_uint8(made))
    return composite(np.concatenate(parts), canvas, rows)


def composite(
    made: UInt8[np.ndarray, "m s s 3"], canvas: Canvas, rows: np.ndarray
) -> UInt8[np.ndarray, "m s s 3"]:
    """Puts the canvas's own pixels back wherever nothing was to be filled."""
    return np.where(canvas.fill[rows][..., None], made, canvas.images[rows])


def _fill(
    run: runs.Run,
    inputs: tuple[Cond, Any, np.ndarray, np.ndarray],
    empty: TextFeatures | None,
    per_device: int,
    resamples: int,
    runner: StageRunner,
) -> np.ndarray:
    """Runs the decoder over one device batch."""
    split = parallel.split(inputs, per_device)
    known = inputs[2]
    plan = runs.sampling_plan(run.static)
    moves = repaint_moves(plan.steps, plan.schedule.num_steps, jump=JUMP, resamples=resamples)
    scale = np.float32(run.sampling.guidance)
    bound = (placed_params(run.nets[0][0]), empty, scale)
    program = functools.partial(_fill_program(run.static), bound)

    def work() -> Any:
        return follow_moves(program, moves, split, split[2], runner.report("decoder"))

    return finite(parallel.join(runner.timed("decoder", work), len(known)), "decoder")
