"""Runs diffusers' schedulers in float64 and records them: `python -m tests.golden.make_schedulers`.

Needs torch and diffusers. Each case holds the step list, the network's outputs and the noises (both
drawn beforehand, so that nothing depends on the network) and the sample after each step. The
schedulers' float32 tables are overwritten by float64 ones from tests/oracles.py.
"""

import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_unclip

from tests.oracles import cosine_alpha_bar

GOLDEN = Path(__file__).parent / "schedulers.npz"
NUM_STEPS = 1000
SHAPE = (2, 2, 3, 3)  # b h w c
IRREGULAR = (999, 850, 611, 444, 443, 120, 31, 0)
TENTHS = tuple(range(900, -1, -100))  # what DDIMScheduler's prev = t - 1000 // 10 demands
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def with_float64_tables(scheduler):
    """Overwrites every table a scheduler made in float32."""
    bar = torch.tensor(cosine_alpha_bar(NUM_STEPS), dtype=torch.float64)
    before = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    scheduler.alphas_cumprod = bar
    scheduler.alphas = bar / before
    scheduler.betas = 1.0 - scheduler.alphas
    return scheduler


def nchw(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def nhwc(tensor):
    return tensor.numpy().transpose(0, 2, 3, 1)


def draw(seed, steps, *, learned=False):
    """A start, and outputs and noises for every step."""
    rng = np.random.default_rng(seed)
    channels = SHAPE[-1] * (2 if learned else 1)
    outputs = rng.normal(size=(len(steps), *SHAPE[:-1], channels))
    if learned:
        outputs[..., SHAPE[-1] :] = np.tanh(outputs[..., SHAPE[-1] :])
    return rng.normal(size=SHAPE), outputs, rng.normal(size=(len(steps), *SHAPE))


def record(steps, drawn, step, **settings):
    """Applies step(index, output, x, noise) along the list; keeps every sample."""
    start, outputs, noises = drawn
    path, x = [], nchw(start)
    for k in range(len(steps)):
        x = step(k, nchw(outputs[k]), x, nchw(noises[k]))
        assert x.dtype == torch.float64
        path.append(nhwc(x))
    arrays = {"x": start, "outputs": outputs, "noises": noises, "path": np.stack(path)}
    settings = {"eta": 0.0, "clip": 0.0, "variance": "fixed_small"} | settings
    return {"steps": np.array(steps)} | arrays | settings


def unclip(seed, prediction, variance, clip):
    scheduler = with_float64_tables(
        diffusers.UnCLIPScheduler(
            variance_type={"fixed_small": "fixed_small_log"}.get(variance, variance),
            prediction_type=PREDICTIONS[prediction],
            clip_sample=clip is not None,
            clip_sample_range=clip,
        )
    )
    scheduler.one = torch.ones((), dtype=torch.float64)
    drawn = draw(seed, IRREGULAR, learned=variance == "learned_range")
    pending = []
    original = scheduling_unclip.randn_tensor
    scheduling_unclip.randn_tensor = lambda shape, **kwargs: pending[-1]

    def step(k, output, x, noise):
        pending.append(noise)
        before = IRREGULAR[k + 1] if k + 1 < len(IRREGULAR) else None
        return scheduler.step(output, IRREGULAR[k], x, prev_timestep=before).prev_sample

    try:
        return record(
            IRREGULAR,
            drawn,
            step,
            sampler="ddpm",
            prediction=prediction,
            variance=variance,
            clip=clip or 0.0,
        )
    finally:
        scheduling_unclip.randn_tensor = original


def ddim(seed, prediction, eta, clip):
    scheduler = with_float64_tables(
        diffusers.DDIMScheduler(
            prediction_type=PREDICTIONS[prediction],
            clip_sample=clip is not None,
            clip_sample_range=clip,
        )
    )
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(len(TENTHS))
    assert tuple(scheduler.timesteps.tolist()) == TENTHS

    def step(k, output, x, noise):
        return scheduler.step(
            output,
            TENTHS[k],
            x,
            eta=eta,
            use_clipped_model_output=True,
            variance_noise=noise if eta > 0.0 else None,
        ).prev_sample

    return record(
        TENTHS,
        draw(seed, TENTHS),
        step,
        sampler="ddim",
        eta=eta,
        prediction=prediction,
        clip=clip or 0.0,
    )


def ddim_inverse(seed):
    """Ascending; at each step eps leads from the level 100 below (clean at first) to the listed."""
    scheduler = with_float64_tables(
        diffusers.DDIMInverseScheduler(prediction_type="epsilon", clip_sample=False)
    )
    scheduler.initial_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(len(TENTHS))
    steps = TENTHS[::-1]
    assert tuple(scheduler.timesteps.tolist()) == steps

    def step(k, output, x, noise):
        del noise
        return scheduler.step(output, steps[k], x).prev_sample

    return record(steps, draw(seed, steps), step, sampler="ddim_inverse", prediction="eps")


def dpmpp(seed, prediction):
    """`step` casts to float32, so its updates are called in its own order: 1, 2, ..., 2, 1."""
    scheduler = with_float64_tables(
        diffusers.DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            final_sigmas_type="zero",
            prediction_type=PREDICTIONS[prediction],
        )
    )
    with warnings.catch_warnings():  # it hands a tensor to np.array in a way NumPy 2 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        scheduler.set_timesteps(timesteps=list(IRREGULAR))
    bar = scheduler.alphas_cumprod[list(IRREGULAR)]
    scheduler.sigmas = torch.cat([torch.sqrt((1.0 - bar) / bar), torch.zeros(1).double()])
    scheduler.set_begin_index(0)
    scheduler._init_step_index(IRREGULAR[0])
    estimates = []

    def step(k, output, x, noise):
        del noise
        estimates.append(scheduler.convert_model_output(output, sample=x))
        if k in (0, len(IRREGULAR) - 1):
            out = scheduler.dpm_solver_first_order_update(estimates[-1], sample=x)
        else:
            out = scheduler.multistep_dpm_solver_second_order_update(estimates[-2:], sample=x)
        scheduler._step_index += 1
        return out

    return record(IRREGULAR, draw(seed, IRREGULAR), step, sampler="dpm++", prediction=prediction)


RUNS = {
    "unclip_prior": lambda: unclip(0, "x0", "fixed_small", 1.0),
    "unclip_decoder": lambda: unclip(1, "eps", "learned_range", 1.0),
    "unclip_upsampler": lambda: unclip(2, "eps", "fixed_small", None),
    "ddim_eta0": lambda: ddim(3, "eps", 0.0, None),
    "ddim_eta1": lambda: ddim(4, "eps", 1.0, None),
    "ddim_half_v_clipped": lambda: ddim(5, "v", 0.5, 1.0),
    "ddim_x0": lambda: ddim(6, "x0", 0.0, None),
    "ddim_inverse": lambda: ddim_inverse(7),
    "dpmpp_eps": lambda: dpmpp(8, "eps"),
    "dpmpp_v": lambda: dpmpp(9, "v"),
    "dpmpp_x0": lambda: dpmpp(10, "x0"),
}


def main():
    arrays = {"versions": np.array(f"torch {torch.__version__}, diffusers {diffusers.__version__}")}
    for name, run in RUNS.items():
        arrays |= {f"{name}/{field}": np.asarray(value) for field, value in run().items()}
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
