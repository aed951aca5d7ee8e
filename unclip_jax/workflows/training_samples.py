"""Sample grids of a training run, of held-out conditions.

They are sampled with the EMA parameters and the stage's own settings (but guided at every noise
level) from fixed noise, so that the grids of two steps differ only by the training between them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.core.distributed import is_process_zero
from unclip_jax.core.prng import GRID_STEP, example_keys, root_key, stage_key, step_key
from unclip_jax.core.rendering import labeled_grid, save_png
from unclip_jax.core.types import Cond, Params
from unclip_jax.data.images import to_uint8
from unclip_jax.diffusion.samplers import sample_loop
from unclip_jax.diffusion.schedules import make_schedule
from unclip_jax.models.denoising import prepare, prepared_network, stage_denoiser
from unclip_jax.train.loop import Hook
from unclip_jax.train.setup import Run
from unclip_jax.train.sharding import replicated
from unclip_jax.train.state import TrainState
from unclip_jax.train.step import batch_keys
from unclip_jax.train.task import Batch, StepConstants
from unclip_jax.train.tasks.diffusion import make_inputs

IMAGES = 8


def make_hooks(run: Run) -> Sequence[Hook]:
    """Returns the hooks of a run: sample grids, for stages that generate images."""
    every, row = run.program.settings.train.sample_every, run.program.spec.row
    is_image = row.is_diffused and not row.gives_embedding
    if not every or not run.held_out or not is_image:
        return ()
    return (Hook(every, SampleGrid(run)),)


class SampleGrid:
    """Writes a grid of samples for the first few held-out examples, with the examples."""

    def __init__(self, run: Run):
        """Prepares the program; it is compiled for the first grid."""
        self._run = run
        self._draw = jax.jit(_make_draw(run), out_shardings=replicated(run.mesh))

    def __call__(self, step: int, state: TrainState) -> None:
        """Writes samples/STEP.png and adds it to the TensorBoard events."""
        run = self._run
        *result, text = self._draw(state.ema_params, run.constants, run.held_out[0])
        if not is_process_zero():
            return
        samples, truth, low_res = (None if x is None else to_uint8(np.asarray(x)) for x in result)
        labels = _labels(run, text, len(samples))
        if low_res is None:
            rows = [[a, b] for a, b in zip(samples, truth, strict=True)]
            labels = [f"{label} | sample, held-out image" for label in labels]
        else:
            rows = [list(row) for row in zip(low_res, samples, truth, strict=True)]
            labels = ["input, sample, held-out image"] * len(rows)
        grid = labeled_grid(rows, labels)
        folder = run.workdir / "samples"
        folder.mkdir(exist_ok=True)
        pixels = np.asarray(grid)
        save_png(
            folder / f"{step:08d}.png", pixels, {"step": str(step), "stage": run.program.spec.stage}
        )
        run.writer.image(step, "samples", pixels)


def _make_draw(run: Run) -> Callable[[Params, StepConstants, Batch], tuple[Any, Any, Any, Any]]:
    """Returns f(params, constants, batch) -> (samples, images, enlarged low-res images, captions).

    Low-res images are None and captions {} for a stage without them.
    """
    spec = run.program.spec
    schedule = make_schedule(spec.diffusion.schedule, spec.diffusion.num_steps)
    inputs, _ = make_inputs(spec, run.program.settings.train, run.program.clip)
    key = step_key(stage_key(root_key(run.program.settings.seed), spec.row.key_id), GRID_STEP)
    count = min(IMAGES, run.program.settings.eval.batch_size)
    guidance, network = spec.sampling.guidance, prepared_network(run.program.module)

    def draw(params: Params, constants: StepConstants, batch: Batch) -> tuple[Any, Any, Any, Any]:
        batch = jax.tree.map(lambda x: x[:count], batch)
        x0, cond = inputs(params, constants, batch, batch_keys(key, count), False)
        scale = None if guidance == 1.0 else guidance
        prepared = prepare(
            network, params, cond, is_guided=scale is not None, uncond_text=constants.empty
        )
        denoise = stage_denoiser(spec, network, params, prepared, scale=scale, limits=spec.sampling)

        def noise(step: Any, shape: tuple[int, ...]) -> Any:
            keys = example_keys(jax.random.fold_in(key, step), jnp.arange(count))
            return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(keys)

        samples = sample_loop(
            denoise,
            noise(spec.diffusion.num_steps, x0.shape),
            schedule=schedule,
            config=spec.sampling,
            diffusion=spec.diffusion,
            noise=noise,
        )
        text = {name: batch[name] for name in ("tokens", "mask") if name in batch}
        return samples, x0, _enlarged(cond, x0.shape), text

    return draw


def _enlarged(cond: Cond, shape: tuple[int, ...]) -> Any:
    return None if cond.low_res is None else jax.image.resize(cond.low_res, shape, "nearest")


def _labels(run: Run, text: dict[str, Any], count: int) -> list[str]:
    """Returns the captions of the held-out examples, empty strings if there are none."""
    if run.clip is None or not text:
        return [""] * count
    rows = zip(np.asarray(text["tokens"]), np.asarray(text["mask"]), strict=True)
    return [run.clip.tokenizer.decode(row[shown]) for row, shown in rows]
