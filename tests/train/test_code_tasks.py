"""The autoregressive prior's training: what is dropped, what stays fitted, and that it learns."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, ndtri

from tests.training import BATCH, OPTIM, Toy
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.core.types import Cond
from unclip_jax.core.vectors import unit64
from unclip_jax.models import pca_codec
from unclip_jax.models.pca import fit_pca, unit_moments
from unclip_jax.models.prior_ar import CodeSampling
from unclip_jax.sampling import codes
from unclip_jax.sampling.programs import ProgramKey
from unclip_jax.train import fitting
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.frozen_clip import caption_features, image_embedding
from unclip_jax.train.sharding import make_mesh
from unclip_jax.train.state import make_state
from unclip_jax.train.step import batch_keys
from unclip_jax.train.tasks.diffusion import TEXT_DROP, keep_mask

STEPS = 400
CODEC_NAMES = {f"codec_{name}" for name in ("mean", "components", "std", "dots")}


@functools.cache
def fitted():
    """The toy with the codec of its eight images, and their features in the batch."""
    toy = Toy("prior_ar", caption_drop=0.1)
    batch = toy.batch()
    text = caption_features(toy.clip, toy.constants, batch)
    batch = {**batch, "image_emb": image_embedding(toy.clip, toy.constants, batch)}
    batch |= {"text_emb": text.text_emb, "text_states": text.text_states}
    z, text_emb = np.asarray(batch["image_emb"]), np.asarray(batch["text_emb"])
    pca = fit_pca(unit_moments(z))
    params = fitting.with_fitted(toy.params(), toy.spec, z, text_emb, pca)
    return toy, params, batch


@functools.cache
def trained():
    """Parameters after STEPS on the same eight pairs."""
    toy, params, batch = fitted()
    state = jax.jit(lambda p: make_state(p, toy.tx, toy.count))(params)
    step = toy.step(OPTIM)
    for _ in range(STEPS):
        state, _ = step(state, toy.constants, batch)
    return state.params


def test_eight_pairs_are_learned_and_sampled():
    """Over 95% of the codes are the likeliest; greedy sampling gives 7 of 8 embeddings back.

    The noise of the dot token is such that each pair gets its own: the quantiles are those of eight
    cosines, so that the one of rank r is drawn by u = r / 7.
    """
    toy, _, batch = fitted()
    params = trained()
    keys = batch_keys(root_key(0), BATCH)
    _, metrics = jax.jit(lambda p: toy.task.loss(p, toy.constants, batch, keys, False))(params)
    assert metrics["accuracy"][0] / metrics["accuracy"][1] > 0.95
    cfg = toy.spec.model.codec
    text = caption_features(toy.clip, toy.constants, batch)
    sampling = CodeSampling(temperature=0.0, dot_percentile=0.0)
    program = ProgramKey.of(toy.spec, sampling)
    unit = [unit64(x) for x in (batch["image_emb"], text.text_emb)]
    rank = np.argsort(np.argsort((unit[0] * unit[1]).sum(1)))
    own = jnp.asarray(ndtri(rank / (BATCH - 1)), jnp.float32)

    def noise(step, shape):
        return own if len(shape) == 1 else jnp.zeros(shape)

    found = codes.sample_codes(program, params, Cond(text=text), 1.0, noise)
    true = pca_codec.encode(pca_codec.codec_of(params), cfg, batch["image_emb"])
    assert len({tuple(row) for row in np.asarray(true).tolist()}) == BATCH
    assert (np.asarray(found) == np.asarray(true)).all(1).sum() >= 7


def test_what_is_fitted_does_not_move():
    _, before, _ = fitted()
    after = trained()
    assert CODEC_NAMES == Toy("prior_ar").spec.fitted_names <= set(before)
    for name in CODEC_NAMES:
        np.testing.assert_array_equal(after[name], before[name])
    assert np.abs(after["head"]["kernel"] - before["head"]["kernel"]).max() > 1e-3


def test_a_dropped_caption_and_its_embedding_have_no_gradient(monkeypatch):
    """What the network is told of a row has a gradient in its caption and z_t, or in neither.

    The codes, the dot token and the loss of other rows are the same whatever is dropped.
    """
    toy = Toy("prior_ar", caption_drop=0.5)
    _, params, batch = fitted()
    keys = batch_keys(root_key(1), BATCH)
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)  # that of the condition, to look in

    @jax.jit
    @jax.grad
    def gradient(inputs):
        return toy.task.loss(params, toy.constants, {**batch, **inputs}, keys, True)[0]

    found = gradient({name: batch[name] for name in ("text_emb", "text_states")})
    dropped = ~np.asarray(keep_mask(keys, TEXT_DROP, 0.5, True))
    assert 0 < dropped.sum() < BATCH
    for value in found.values():
        moved = np.abs(np.asarray(value)).reshape(BATCH, -1).max(1)
        assert (moved[dropped] == 0).all() and (moved[~dropped] > 0).all()


def test_the_codec_is_fitted_to_the_embeddings():
    _, params, batch = fitted()
    z, text = (np.asarray(batch[name], np.float64) for name in ("image_emb", "text_emb"))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z, text)]
    np.testing.assert_allclose(params["codec_mean"], unit[0].mean(0), atol=1e-6)
    dots = (unit[0] * unit[1]).sum(1)
    ends = [params["codec_dots"][0], params["codec_dots"][50], params["codec_dots"][-1]]
    np.testing.assert_allclose(ends, [dots.min(), np.median(dots), dots.max()], atol=1e-6)
    values = np.linalg.svd(unit[0] - unit[0].mean(0), compute_uv=False) ** 2 / BATCH
    expected = np.sqrt(values[: len(params["codec_std"])])
    np.testing.assert_allclose(params["codec_std"], expected, rtol=1e-3)


def test_embeddings_are_gathered_from_the_next_batches():
    toy, _, batch = fitted()
    other = {**batch, "image_emb": batch["image_emb"] + 1}
    batches = itertools.chain([batch, other], itertools.repeat(None))
    mesh = make_mesh(MeshConfig())
    z, text = fitting.collect_embeddings(toy.clip, toy.constants, batches, 2, mesh)
    np.testing.assert_array_equal(z, np.concatenate([batch["image_emb"], other["image_emb"]]))
    np.testing.assert_array_equal(text, np.concatenate([batch["text_emb"]] * 2))


def test_a_pca_with_too_few_components_is_one_line():
    toy, params, batch = fitted()
    z, text_emb = np.asarray(batch["image_emb"]), np.asarray(batch["text_emb"])
    pca = fit_pca(unit_moments(z))
    short = pca.replace(components=pca.components[:2], eigenvalues=pca.eigenvalues[:2])
    with pytest.raises(UserError, match="config.model.codec.*the PCA has 2"):
        fitting.with_fitted(params, toy.spec, z, text_emb, short)


@pytest.mark.parametrize("drop", [0.0, 1.0])
def test_the_loss_is_the_cross_entropy_of_the_codes(drop):
    """In float64 of the network's own logits; the dot token is the pair's, whatever is dropped."""
    toy = Toy("prior_ar", caption_drop=drop)
    _, params, batch = fitted()
    keys = batch_keys(root_key(0), BATCH)
    found, _ = jax.jit(lambda p: toy.task.loss(p, toy.constants, batch, keys, True))(params)
    cfg, codec = toy.spec.model.codec, pca_codec.codec_of(params)
    codes = pca_codec.encode(codec, cfg, batch["image_emb"])
    dot = pca_codec.dot_codes(cfg, batch["image_emb"], batch["text_emb"])
    given, empty = caption_features(toy.clip, toy.constants, batch), toy.constants.empty
    told = jax.tree.map(
        lambda x, null: jnp.broadcast_to(null, x.shape) if drop else x, given, empty
    )
    logits = jax.jit(toy.module.apply)({"params": params}, codes, dot, Cond(text=told))
    logits = np.float64(logits)
    own = np.take_along_axis(logits, np.asarray(codes)[..., None], -1)[..., 0]
    expected = (logsumexp(logits, axis=-1) - own).mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)
