"""One stage at a time: guidance, noise by key, injected noise, chunks, two nets, the best draw."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy import LARGE, SIZE, root
from unclip_jax import api
from unclip_jax.checkpoint.bundle import CascadeNet, CascadeStep
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.sampling import programs
from unclip_jax.sampling.encode import encode_text
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.stage_sampler import StageSampler, require_finite

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


def keys_of(n):
    return jax.vmap(lambda i: jax.random.fold_in(root(), i))(jnp.arange(n))


def run_watched(model, low_res, steps, seen):
    """Runs the upsampler with `steps` levels; what is reported goes to `seen`, if it is a list."""
    sampling = dataclasses.replace(model.stage("upsampler_256").spec.sampling, steps=steps)
    monitor = Monitor(None if seen is None else lambda *report: seen.append(report))
    sampler = StageSampler(model, "upsampler_256", sampling, monitor=monitor)
    made = sampler(Cond(low_res=low_res), keys_of(N))
    assert monitor.seconds["upsampler_256"] > 0
    return made


def test_chunks_give_the_same_numbers_and_report_every_step(toy, low_res, large):
    seen = []
    np.testing.assert_allclose(run_watched(toy, low_res, 4, seen), large, **SAME)
    assert seen == [("upsampler_256", done, 4) for done in range(5)]


def test_a_prime_number_of_steps_is_reported_in_near_equal_parts(toy, low_res):
    seen = []
    run_watched(toy, low_res, 23, seen)
    done = [d for _, d, _ in seen]
    assert done[0] == 0 and done[-1] == 23 and {n for *_, n in seen} == {23}
    assert len(seen) == 11 and set(np.diff(done)) == {2, 3}


def test_previews_are_images_and_the_last_one_is_the_result(toy, low_res, large):
    """The step to clean data ends at the estimate of x_0, whatever the sampler."""
    seen = []
    monitor = Monitor(lambda *report: None, lambda *shown: seen.append(shown))
    StageSampler(toy, "upsampler_256", monitor=monitor)(Cond(low_res=low_res), keys_of(N))
    assert [name for name, _ in seen] == ["upsampler_256"] * 4
    assert all(shown.shape == (N, LARGE, LARGE, 3) and shown.dtype == np.uint8 for _, shown in seen)
    expected = np.round((large + 1) * 127.5)
    np.testing.assert_allclose(seen[-1][1], expected, rtol=0, atol=1)
    assert np.abs(seen[0][1] - expected).mean() > 1


def test_a_prior_shows_no_preview(toy, text):
    seen = []
    monitor = Monitor(lambda *report: None, lambda *shown: seen.append(shown))
    prior, empty = StageSampler(toy, "prior_diffusion", monitor=monitor), encode_text(toy, [""])
    prior(Cond(text=text), keys_of(N), uncond_text=empty)
    assert seen == []


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


def test_the_best_candidate_is_kept_and_ties_go_to_the_first():
    text_emb = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    z = jnp.array([[[0.5, 9.0], [0.6, -9.0]], [[1.0, 2.0], [5.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]]])
    expected = np.array([[0.6, -9.0], [1.0, 2.0], [1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(programs.best_candidate(z, text_emb), expected)


def test_an_examples_candidates_stand_together_with_its_caption(toy, text):
    """Also where a device has several examples; `best_candidate` reads them in this order."""
    program = StageSampler(toy, "prior_diffusion").nets[0].program
    assert program.num_candidates == 2
    found = programs.candidate_cond(program, Cond(text=text)).text.text_emb
    expected = [text.text_emb[i] for i in (0, 0, 1, 1, 2, 2)]
    np.testing.assert_array_equal(found, expected)


def test_one_number_that_is_not_finite_is_too_many():
    made = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(require_finite(made, "decoder"), made)
    for bad in (np.nan, np.inf):
        made[1, 2] = bad
        with pytest.raises(UserError, match="decoder produced values that are not finite"):
            require_finite(made, "decoder")


@pytest.mark.parametrize("rounds", [True, False])
def test_the_bundle_says_whether_small_images_are_rounded(toy, rounds):
    sampling = dataclasses.replace(toy.sampling, round_low_res=rounds)
    model = dataclasses.replace(toy, sampling=sampling)
    (net,) = StageSampler(model, "upsampler_256").nets
    assert net.program.round_low_res == rounds


def test_a_prior_s_result_leaves_the_space_that_is_diffused_within_its_limits(toy):
    """The same run, read as 4 z / |z| and as z itself: the former's result is a quarter of it."""
    held = toy.stage("prior_diffusion")
    cond = Cond(text=encode_text(toy, ["a red heart", "the sun"]))
    results = {}
    for norm in (EmbeddingNorm("l2", 4.0), EmbeddingNorm("none")):
        spec = dataclasses.replace(held.spec, embedding_norm=norm)
        stage = dataclasses.replace(held, spec=spec)
        model = dataclasses.replace(toy, stages={**toy.stages, "prior_diffusion": stage})
        sampling = dataclasses.replace(spec.sampling, steps=2, num_candidates=1, x0_bound=0.05)
        results[norm.kind] = api.run_stage(model, "prior", cond, key=root(), sampling=sampling)
    np.testing.assert_allclose(4.0 * results["l2"], results["none"], rtol=1e-5, atol=1e-7)
    largest = np.abs(results["none"]).max()
    assert 0.04 < largest <= 0.05 * (1 + 1e-6)  # the last step returns the clipped estimate


@pytest.mark.parametrize(
    ("given", "counts"), [((None, 1), (3, 1)), ((1, None), (1, 3)), ((2, 1), (2, 2))]
)
def test_the_nets_of_a_cascade_share_its_steps(toy, given, counts):
    """Of four steps: the net without a number takes the rest, else the last."""
    stage = toy.stage("upsampler_256")
    model = dataclasses.replace(toy, stages={**toy.stages, "super_res_last": stage})
    names = ("upsampler_256", "super_res_last")
    nets = tuple(CascadeNet(*net) for net in zip(names, given, strict=True))
    model = dataclasses.replace(model, cascade=(CascadeStep(SIZE, LARGE, nets),))
    sampler = StageSampler(model, "upsampler_256")
    assert tuple(net.num_steps for net in sampler.nets) == counts
    assert sampler.num_steps == 4
