"""Codes one by one: against the whole pass with documented keys, their law, and the whole chain."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import unclip_jax
from tests.toy import root, with_prior_ar
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond
from unclip_jax.models import pca_codec
from unclip_jax.models.prior_ar import CodeSampling
from unclip_jax.sampling import codes
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.settings import SampleSettings, resolve
from unclip_jax.sampling.stage_sampler import StageSampler

N, K = 3, 5
SAME = {"rtol": 0, "atol": 2e-5}  # two programs of the same numbers


@pytest.fixture(scope="module")
def model(toy):
    return with_prior_ar(toy)


@pytest.fixture(scope="module")
def text(toy):
    return unclip_jax.embed_text(toy, ["a red heart", "the sun", "a dog face"])


@pytest.fixture(scope="module")
def drawn(model, text):
    return unclip_jax.run_stage(model, "prior_ar", Cond(text=text), key=root())


def rows(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def reference(model, text, scale, draw=0):
    """The same by whole passes of the raw network, keys and Gumbel noise as documented."""
    cfg = model.stage("prior_ar").spec.model.codec
    codec = pca_codec.codec_of(model.stage("prior_ar").params)
    fold = jax.random.fold_in
    keys = [fold(fold(fold(root(), i), 2), draw) for i in range(N)]

    def normal(step, *shape):
        return np.stack([jax.random.normal(fold(k, step + 1), shape) for k in keys])

    u = 0.5 + stats.norm.cdf(normal(-1).astype(np.float64)) / 2  # the upper half
    value = np.interp(u * 100, np.arange(101), codec.dots)
    dot = np.floor((value + 1) * cfg.dot_buckets / 2).astype(np.int32)
    found = np.zeros((N, K), np.int32)
    for i in range(K):
        given = unclip_jax.predict(model, "prior_ar", found, dot, text=text)
        null = unclip_jax.predict(model, "prior_ar", found, dot)
        logits = np.asarray(null + scale * (given - null), np.float64)[:, i]
        gumbel = -np.log(-stats.norm.logcdf(normal(i, cfg.buckets).astype(np.float64)))
        found[:, i] = (logits + gumbel).argmax(-1)
    return np.asarray(pca_codec.decode(codec, cfg, jnp.asarray(found)))


def test_cached_sampling_is_the_whole_pass_with_the_documented_keys(model, text, drawn):
    np.testing.assert_allclose(drawn, reference(model, text, 2.0), **SAME)
    assert np.abs(np.linalg.norm(drawn, axis=1) - 1).max() < 1e-5


def test_one_more_caption_changes_no_earlier_one(model, text, drawn):
    fewer = unclip_jax.run_stage(model, "prior_ar", Cond(text=rows(text, [0, 1])), key=root())
    np.testing.assert_allclose(fewer, drawn[:2], **SAME)
    other = unclip_jax.run_stage(model, "prior_ar", Cond(text=text), key=root(1))
    assert np.abs(other - drawn).max() > 0.05


def test_of_two_draws_the_nearer_to_the_caption_is_kept(model, text, drawn):
    sampling = CodeSampling(guidance=2.0, num_candidates=2)
    best = unclip_jax.run_stage(model, "prior_ar", Cond(text=text), key=root(), sampling=sampling)
    draws = np.stack([drawn, reference(model, text, 2.0, draw=1)])
    scores = np.einsum("knd,nd->kn", draws, text.text_emb)
    expected = np.where((scores[0] >= scores[1])[:, None], draws[0], draws[1])
    np.testing.assert_allclose(best, expected, **SAME)


def test_a_progress_bar_costs_nothing(model, text, drawn):
    seen = []
    sampler = StageSampler(model, "prior_ar", monitor=Monitor(lambda *report: seen.append(report)))
    keys = jax.vmap(lambda i: jax.random.fold_in(root(), i))(jnp.arange(N))
    empty = unclip_jax.embed_text(model, [""])
    np.testing.assert_allclose(sampler(Cond(text=text), keys, uncond_text=empty), drawn, **SAME)
    assert seen == [("prior_ar", 0, K), ("prior_ar", K, K)]


def test_codes_have_the_probabilities_of_the_tempered_softmax():
    logits = np.array([0.0, 1.0, 2.5, -1.0])
    count = 20000
    noise = jax.random.normal(jax.random.key(0), (count, 4))
    for temperature in (1.0, 0.5):
        sampling = CodeSampling(temperature=temperature)
        found = codes.draw_codes(jnp.tile(jnp.asarray(logits)[None], (count, 1)), noise, sampling)
        expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        seen = np.bincount(np.asarray(found), minlength=4)
        assert stats.chisquare(seen, expected * count).pvalue > 1e-3


def test_temperature_zero_takes_the_likeliest():
    logits = jnp.array([[0.0, 3.0, 2.9], [5.0, 3.0, 2.9]])
    found = codes.draw_codes(logits, jnp.full((2, 3), 9.0), CodeSampling(temperature=0.0))
    assert found.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (0.95, 3), (0.96, 4), (1.0, 4)]
)
def test_nucleus_keeps_the_smallest_set_that_reaches_p(top_p, kept):
    """Probabilities .5, .3, .15, .05 in another order."""
    logits = jnp.log(jnp.array([[0.15, 0.5, 0.05, 0.3]]))
    order = [1, 3, 0, 2]
    left = np.isfinite(np.asarray(codes.nucleus(logits, top_p * (1 - 1e-6)))[0])
    assert left[order].tolist() == [True] * kept + [False] * (4 - kept)


def test_the_dot_token_lies_in_the_upper_part(model):
    cfg = model.stage("prior_ar").spec.model.codec
    codec = pca_codec.codec_of(model.stage("prior_ar").params)
    u = jax.random.uniform(jax.random.key(0), (2000,))
    fine = dataclasses.replace(cfg, dot_buckets=4096)
    for percentile in (0.0, 50.0, 85.0):
        dots = pca_codec.dequantize(pca_codec.draw_dots(codec, fine, u, percentile), 4096)
        least = np.interp(percentile, np.arange(101), codec.dots)
        assert least - 1e-3 < float(dots.min()) < least + 0.05


def test_the_chain_runs_with_either_prior(model):
    kwargs = {"key": root(), "num": 2, "size": 16}
    one = unclip_jax.sample(model, ["a red heart"], prior="ar", **kwargs)
    two = unclip_jax.sample(model, ["a red heart", "the sun"], prior="ar", **kwargs)
    assert one.shape == (2, 16, 16, 3)
    assert np.abs(one.astype(int) - two[:2]).max() <= 2
    other = unclip_jax.sample(model, ["a red heart"], prior="diffusion", **kwargs)
    assert np.abs(one.astype(int) - other).max() > 2


def test_settings_of_a_prior_that_has_none_of_them_are_refused(model):
    for changes, words in (
        ({"prior": "ar", "prior_steps": 3}, "prior_steps is for the diffusion prior"),
        ({"prior": "diffusion", "prior_top_p": 0.5}, "prior_top_p is for the ar prior"),
        ({"prior": "ar", "prior_top_p": 1.5}, "prior_top_p=1.5 must lie in"),
        ({"prior": "text", "prior_temperature": 1.0}, "prior_temperature is for"),
    ):
        with pytest.raises(UserError, match=words):
            resolve(model, SampleSettings(**changes))
    plan = resolve(model, SampleSettings(prior="ar", prior_temperature=0.0, prior_guidance=3.0))
    assert plan.prior_sampling == CodeSampling(guidance=3.0, temperature=0.0)
    held = plan.to_json()
    assert (held["prior_steps"], held["prior_temperature"], held["prior_top_p"]) == (None, 0.0, 1.0)


def test_a_code_prior_has_no_denoiser(model, text):
    with pytest.raises(UserError, match="not a diffusion stage"):
        unclip_jax.x0_denoiser(model, "prior_ar", Cond(text=text))


def test_bundle_round_trip(model, drawn, text, tmp_path):
    folder = unclip_jax.save(model, tmp_path / "both", dtype="float32")
    loaded = unclip_jax.load(folder)
    assert loaded.stage("prior_ar").spec == model.stage("prior_ar").spec
    again = unclip_jax.run_stage(loaded, "prior_ar", Cond(text=text), key=root())
    np.testing.assert_array_equal(again, drawn)
    assert math.isclose(float(loaded.pca.eigenvalues.sum()), float(model.pca.eigenvalues.sum()))
