"""One stage at a time: guidance, noise by key, injected noise, chunks, two nets, the best draw."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy import LARGE, SIZE, root
from unclip_jax import api
from unclip_jax.checkpoint.bundle import CascadeNet, CascadeStep
from unclip_jax.core.types import Cond
from unclip_jax.sampling import parallel, runs, stages
from unclip_jax.sampling.encode import encode_text

# Two compilations of one program differ by rounding: fusion, batch size, scan or not.
SAME = {"rtol": 0, "atol": 2e-5}
N = 3


@pytest.fixture(scope="module")
def text(toy):
    return encode_text(toy, ["a red heart", "the sun", "a dog face"])


@pytest.fixture(scope="module")
def low_res():
    grid = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3))
    return (grid / 127.5 - 1).astype(np.float32)


@pytest.fixture(scope="module")
def large(toy, low_res):
    """Returns the upsampler's images of `low_res` with the noise of key 0."""
    return api.run_stage(toy, "upsampler_256", Cond(low_res=low_res), key=root())


def documented_noise(key, stage_id, n):
    """Noise by the documented folding: example, stage, draw 0, step + 1."""
    fold = jax.random.fold_in
    keys = [fold(fold(fold(key, i), stage_id), 0) for i in range(n)]

    def noise(step, shape):
        assert shape[0] == n
        return jnp.stack([jax.random.normal(fold(k, step + 1), shape[1:]) for k in keys])

    return noise


def test_noise_is_what_the_keys_document(toy, low_res, large):
    noise = documented_noise(root(), 4, N)
    injected = api.run_stage(toy, "upsampler_256", Cond(low_res=low_res), noise=noise)
    np.testing.assert_allclose(injected, large, **SAME)


def test_other_noise_gives_another_image(toy, low_res, large):
    noise = documented_noise(root(1), 4, N)
    other = api.run_stage(toy, "upsampler_256", Cond(low_res=low_res), noise=noise)
    assert np.abs(other - large).max() > 0.1


def test_the_low_res_image_is_rounded_to_8_bits(toy, low_res, large):
    moved = low_res + np.float32(0.3 / 127.5) * (low_res < 0.9)
    result = api.run_stage(toy, "upsampler_256", Cond(low_res=moved), key=root())
    np.testing.assert_allclose(result, large, **SAME)
    moved = low_res + np.float32(2 / 127.5) * (low_res < 0.9)
    result = api.run_stage(toy, "upsampler_256", Cond(low_res=moved), key=root())
    assert np.abs(result - large).max() > 1e-3


def test_chunks_give_the_same_numbers_and_report_every_step(toy, low_res, large):
    run = runs.cascade_run(toy, toy.cascade[0], "float32")
    keys = jax.vmap(lambda i: jax.random.fold_in(root(), i))(jnp.arange(N))
    cond, keys = parallel.split((Cond(low_res=low_res), keys), 1)
    seen = []
    result = stages.run_over_devices(run, cond, None, keys, lambda done, n: seen.append((done, n)))
    np.testing.assert_allclose(parallel.join(result, N), large, **SAME)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_two_nets_share_one_schedule(toy, low_res, large):
    """The same network twice is the network; the second's parameters matter where they differ."""
    first = toy.stage("upsampler_256")
    # Two steps each, for the last one has no noise that could be another's.
    nets = (CascadeNet("upsampler_256", 2), CascadeNet("upsampler_1024"))
    other = dataclasses.replace(first, spec=dataclasses.replace(first.spec, stage="upsampler_1024"))
    cascade = (CascadeStep(SIZE, LARGE, nets),)
    model = dataclasses.replace(
        toy, stages={**toy.stages, "upsampler_1024": other}, cascade=cascade
    )
    result = api.run_stage(model, "upsampler_256", Cond(low_res=low_res), key=root())
    np.testing.assert_allclose(result, large, **SAME)
    noise = documented_noise(root(), 4, N)
    injected = api.run_stage(model, "upsampler_256", Cond(low_res=low_res), noise=noise)
    np.testing.assert_allclose(injected, large, **SAME)
    named = api.run_stage(model, "upsampler_1024", Cond(low_res=low_res), key=root())
    np.testing.assert_allclose(named, large, **SAME)  # either name stands for the whole step
    zeros = dataclasses.replace(other, params=jax.tree.map(np.zeros_like, other.params))
    model = dataclasses.replace(model, stages={**model.stages, "upsampler_1024": zeros})
    result = api.run_stage(model, "upsampler_256", Cond(low_res=low_res), key=root())
    assert np.abs(result - large).max() > 1e-3


def run_watched(model, low_res, steps, seen):
    """Runs the upsampler with `steps` levels; what is reported goes to `seen`, if it is a list."""
    sampling = dataclasses.replace(model.stage("upsampler_256").spec.sampling, steps=steps)
    run = runs.cascade_run(model, model.cascade[0], "float32", sampling)
    keys = jax.vmap(lambda i: jax.random.fold_in(root(), i))(jnp.arange(N))
    cond, keys = parallel.split((Cond(low_res=low_res), keys), 1)
    report = None if seen is None else lambda done, n: seen.append((done, n))
    return parallel.join(stages.run_over_devices(run, cond, None, keys, report), N)


def test_a_prime_number_of_steps_is_reported_in_near_equal_parts(toy, low_res):
    seen = []
    run_watched(toy, low_res, 23, seen)
    done = [0, *(d for d, _ in seen)]
    assert done[-1] == 23 and {n for _, n in seen} == {23}
    assert len(seen) == 10 and set(np.diff(done)) == {2, 3}


def test_nothing_is_compiled_again_because_somebody_watches(toy, low_res):
    """Nor the other way round: both run the same programs, and give the same bits."""
    compiled = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    alone = run_watched(toy, low_res, 13, None)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        watched = run_watched(toy, low_res, 13, [])
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    np.testing.assert_array_equal(watched, alone)


def test_the_best_draw_is_kept_and_ties_go_to_the_first():
    text_emb = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    z = jnp.array([[[0.5, 9.0], [0.6, -9.0]], [[1.0, 2.0], [5.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]]])
    expected = [[0.6, -9.0], [1.0, 2.0], [1.0, 2.0]]
    np.testing.assert_array_equal(stages.best_draw(z, text_emb), np.array(expected, np.float32))


def test_an_examples_draws_stand_together_with_its_caption(toy, text):
    """Also where a device has several examples; `best_draw` reads them in this order."""
    run = runs.run_for(toy, "prior_diffusion", None, "float32")
    static = dataclasses.replace(
        run.static, sampling=dataclasses.replace(run.sampling, num_candidates=2)
    )
    found = stages.prepare(static, Cond(text=text)).text.text_emb
    expected = [text.text_emb[i] for i in (0, 0, 1, 1, 2, 2)]
    np.testing.assert_array_equal(found, expected)


def test_the_prior_keeps_the_draw_nearer_to_the_caption(toy, text):
    """Two draws: the result is whichever of the single draws has the larger z_i . z_t."""
    two = api.run_stage(toy, "prior", Cond(text=text), key=root())
    single = dataclasses.replace(toy.stage("prior_diffusion").spec.sampling, num_candidates=1)
    fold = jax.random.fold_in
    draws = []
    for draw in (0, 1):
        keys = [fold(fold(fold(root(), i), 1), draw) for i in range(N)]

        def noise(step, shape, keys=keys):
            return jnp.stack([jax.random.normal(fold(k, step + 1), shape[1:]) for k in keys])

        draws.append(api.run_stage(toy, "prior", Cond(text=text), noise=noise, sampling=single))
    scores = np.einsum("knd,nd->kn", draws, text.text_emb)
    expected = np.where((scores[0] >= scores[1])[:, None], draws[0], draws[1])
    np.testing.assert_allclose(two, expected, **SAME)
