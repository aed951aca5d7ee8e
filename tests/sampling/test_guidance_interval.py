"""Guidance in an interval of noise levels, and no unconditional half where there is none."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unclip_jax
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond
from unclip_jax.diffusion.config import SamplingConfig
from unclip_jax.sampling import programs
from unclip_jax.sampling.settings import SampleSettings, resolve
from unclip_jax.sampling.stage_sampler import StageSampler

T, STEPS, SCALE = 1000, 5, 3.0
INTERVAL = (0.2, 2.0)


def levels():
    """The steps of OpenAI's rule and the cosine schedule's alpha and sigma, by their formulas."""
    steps = np.array([round(k * (T - 1) / (STEPS - 1)) for k in range(STEPS)])[::-1]
    u = np.arange(T + 1) / T
    f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    bar = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    return steps, np.sqrt(bar), np.sqrt(1 - bar)


def conditions(toy):
    """A condition of two examples, and that of guidance's other half."""
    rng = np.random.default_rng(0)
    text = unclip_jax.embed_text(toy, ["a red heart", "the sun"], stage="decoder")
    empty = unclip_jax.embed_text(toy, ["", ""], stage="decoder")
    z = rng.normal(size=(2, 16)).astype(np.float32)
    given = Cond(image_emb=z, image_keep=np.ones(2, bool), text=text)
    return given, given.replace(image_keep=np.zeros(2, bool), text=empty)


def test_a_numpy_loop_gives_the_same_images(toy):
    steps, alpha, sigma = levels()
    inside = (sigma / alpha > INTERVAL[0]) & (sigma / alpha <= INTERVAL[1])
    assert inside[steps].tolist() == [False, False, True, True, False]
    given, other = conditions(toy)
    start = np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype(np.float32)
    sampling = SamplingConfig("ddim", STEPS, guidance=SCALE, guidance_interval=INTERVAL)
    found = unclip_jax.run_stage(
        toy, "decoder", given, noise=lambda step, shape: jnp.asarray(start), sampling=sampling
    )

    network = jax.jit(unclip_jax.denoise_fn(toy, "decoder"))
    params = toy.stage("decoder").params

    def predicted(x, t, cond):
        raw = network(params, x.astype(np.float32), np.full(2, t), cond)
        return np.asarray(raw, np.float64)[..., :3]

    def loop(guided):
        x = start.astype(np.float64)
        for i, t in enumerate(steps):
            v = predicted(x, t, given)
            if guided[t]:
                v = v + (SCALE - 1) * (v - predicted(x, t, other))
            x0 = np.clip(alpha[t] * x - sigma[t] * v, -1, 1)
            eps = (x - alpha[t] * x0) / sigma[t]
            last = i + 1 == STEPS
            x = x0 if last else alpha[steps[i + 1]] * x0 + sigma[steps[i + 1]] * eps
        return np.clip(x, -1, 1)

    np.testing.assert_allclose(found, loop(inside), atol=2e-4)
    for everywhere in (np.ones(T, bool), np.zeros(T, bool)):
        assert np.abs(found - loop(everywhere)).max() > 0.01


def sampler_of(toy, **fields):
    return StageSampler(toy, "decoder", SamplingConfig("ddim", STEPS, **fields))


def rows(toy, net):
    """The examples that the network of a program sees, of two that are asked for."""
    given, other = conditions(toy)
    one = jax.tree.map(lambda leaf: leaf[:1], other.text)
    arguments = toy.stage("decoder").params, given.replace(image_keep=None), one

    def read(params, cond, empty):
        return programs.prepare(net.program, params, cond, empty)

    prepared = jax.eval_shape(read, *arguments)
    state = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)

    def denoise(params, prepared, x):
        denoiser = programs.prepared_denoiser(net.program, params, prepared, SCALE)
        return denoiser(x, jnp.zeros(2, jnp.int32)).x0

    text = jax.jit(denoise).lower(arguments[0], prepared, state).as_text()
    found = {int(n) for n in re.findall(r"stablehlo\.convolution.*-> tensor<(\d+)x", text)}
    (count,) = found
    return count


def test_outside_of_the_interval_and_at_scale_1_the_other_half_is_not_computed(toy):
    nets = sampler_of(toy, guidance=SCALE, guidance_interval=INTERVAL).nets
    assert [(net.program.is_guided, net.num_steps) for net in nets] == [
        (False, 2),
        (True, 2),
        (False, 1),
    ]
    assert [rows(toy, net) for net in nets[:2]] == [2, 4]
    assert nets[0].program == nets[2].program
    (off,) = sampler_of(toy, guidance=1.0, guidance_interval=INTERVAL).nets
    assert off.program == nets[0].program
    (everywhere,) = sampler_of(toy, guidance=SCALE).nets
    assert everywhere.program == nets[1].program


def test_an_interval_over_all_levels_changes_nothing(toy):
    (net,) = sampler_of(toy, guidance=SCALE, guidance_interval=(0.0, 1e9)).nets
    assert net.num_steps == STEPS
    assert net.program == sampler_of(toy, guidance=SCALE).nets[0].program


def test_settings(toy):
    chosen = SampleSettings(guidance_interval=(1.0, 2.5), prior_guidance_interval=(0.5, 9.0))
    plan = resolve(toy, chosen)
    assert plan.decoder_sampling.guidance_interval == (1.0, 2.5)
    assert plan.prior_sampling.guidance_interval == (0.5, 9.0)
    assert plan.to_json()["guidance_interval"] == [1.0, 2.5]
    assert "guidance_interval" not in resolve(toy, SampleSettings()).to_json()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_interval": (2.0, 1.0)}, "guidance_interval must be two noise levels"),
        ({"guidance_interval": (-1.0, 1.0)}, "0 <= low < high"),
        ({"guidance_interval": (0.0, float("inf"))}, "not .0.0, inf."),
        ({"prior_guidance_interval": (1.0, 1.0)}, "prior_guidance_interval must be"),
        ({"prior_guidance_interval": (0.0, 1.0), "prior": "text"}, "not for prior 'text'"),
    ],
)
def test_bad_intervals(toy, settings, message):
    with pytest.raises(UserError, match=message):
        resolve(toy, SampleSettings(**settings))


def test_a_config_checks_its_interval():
    with pytest.raises(ValueError, match="guidance_interval"):
        SamplingConfig(guidance_interval=(1.0, 1.0))
