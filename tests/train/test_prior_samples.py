"""A prior's samples in a decoder's training: the file, who gets one, and a run from the command."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from tests.toy import toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.prior_samples import (
    PRIOR_SAMPLES_FILE,
    PriorSamples,
    load_prior_samples,
    save_prior_samples,
)
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.cli.config_files import read_config
from unclip_jax.cli.embed import embed
from unclip_jax.core.errors import UserError
from unclip_jax.train import experiment
from unclip_jax.train.inputs import SampledEmbeddings
from unclip_jax.workflows import embedding as sampling_embed

ROOT = Path(__file__).resolve().parents[2]
DATA = "shapes:size=16,count=12"
N, K, D, CTX = 5, 3, 4, 6


@pytest.fixture
def samples():
    """Sample k of caption n is 100 n + k in every coordinate; its ids are n, n, …"""
    values = 100 * np.arange(N)[:, None] + np.arange(K)
    image_emb = np.broadcast_to(values[..., None], (N, K, D)).astype(np.float32)
    return PriorSamples("abc", np.full((N, CTX), np.arange(N)[:, None], np.int32), image_emb)


def shown(count, start=0):
    """Examples `start` and on, of caption number mod N, whose own z_i is -1."""
    number = np.arange(start, start + count, dtype=np.int64)
    tokens = np.full((count, CTX), (number % N)[:, None], np.int32)
    return {"image_emb": np.full((count, D), -1, np.float32), "tokens": tokens, "index": number}


def test_the_share_gets_samples_of_its_own_captions_evenly(samples):
    batch = shown(4000)
    z = SampledEmbeddings(samples, 0.6, seed=3).mix(batch)
    assert (batch["image_emb"] == -1).all()  # the cache's own rows are left alone
    own = z[:, 0] == -1
    assert abs(own.mean() - 0.4) < 4 * np.sqrt(0.24 / 4000)
    caption, draw = np.divmod(z[~own, 0].astype(int), 100)
    np.testing.assert_array_equal(caption, (batch["index"] % N)[~own])
    counts = np.bincount(draw, minlength=K)
    assert abs(counts / len(draw) - 1 / K).max() < 4 * np.sqrt(2 / 9 / len(draw))
    np.testing.assert_array_equal(z, z[:, :1].repeat(D, 1))


def test_an_example_gets_the_same_in_any_batch_and_another_by_another_seed(samples):
    mixed = SampledEmbeddings(samples, 0.5, seed=3).mix
    whole = mixed(shown(64))
    np.testing.assert_array_equal(whole[48:], mixed(shown(16, start=48)))
    assert (whole != SampledEmbeddings(samples, 0.5, seed=4).mix(shown(64))).any()
    for share, expected in ((0.0, -1), (1.0, 0)):
        z = SampledEmbeddings(samples, share, seed=3).mix(shown(64))
        assert (z == -1).all() if expected else (z >= 0).all()


def test_a_sample_far_from_the_example_s_own_embedding_leaves_it_that(samples):
    """Draw k of a caption is at k x 40 degrees from the own z_i of every example."""
    angle = np.deg2rad(40 * np.arange(K))
    plane = np.stack([3 * np.cos(angle), 3 * np.sin(angle), 0 * angle, 0 * angle], -1)
    turned = dataclasses.replace(samples, image_emb=np.tile(plane, (N, 1, 1)).astype(np.float32))
    batch = shown(600)
    batch["image_emb"] = np.tile(np.float32([5, 0, 0, 0]), (600, 1))
    for least, angles in ((0.9, {0}), (0.7, {0, 40}), (0.1, {0, 40, 80}), (-1.0, {0, 40, 80})):
        z = SampledEmbeddings(turned, 1.0, seed=3, least_cosine=least).mix(batch)
        own = z[:, 0] == 5
        assert own.any() == (len(angles) < 3)
        assert set(np.rad2deg(np.arctan2(z[:, 1], z[:, 0])).round().astype(int)) == angles
        assert abs(own.mean() - (1 - len(angles) / 3)) < 4 * np.sqrt(2 / 9 / 600)


def test_the_file(samples, tmp_path):
    path = tmp_path / "s.safetensors"
    save_prior_samples(path, samples)
    held = load_prior_samples(path, "abc")
    np.testing.assert_array_equal(held.image_emb, samples.image_emb)
    np.testing.assert_array_equal(held.tokens, samples.tokens)
    with pytest.raises(UserError, match="made with another CLIP"):
        load_prior_samples(path, "abd")
    with pytest.raises(UserError, match="does not exist; make one with: unclip embed"):
        load_prior_samples(tmp_path / "none", "abc")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="not a readable"):
        load_prior_samples(path, "abc")
    save_file({"tokens": samples.tokens}, path)
    with pytest.raises(UserError, match="does not have samples of a prior"):
        load_prior_samples(path, "abc")
    with pytest.raises(UserError, match="lack 1 of 2 captions"):
        samples.rows(np.asarray([samples.tokens[2], samples.tokens[2] + 90]))


@pytest.fixture(scope="module")
def toy():
    return toy_bundle()


def test_samples_do_not_depend_on_what_else_is_sampled(toy, monkeypatch):
    captions = ["a red heart", "the sun", "a cat", "a tree", "fire"]
    for prior in ("diffusion", "ar"):
        if f"prior_{prior}" not in toy.stages:
            continue
        whole = sampling_embed.sample_captions(toy, captions, 3, prior=prior)
        with monkeypatch.context() as patch:
            patch.setattr(sampling_embed, "BATCH", 6)  # two captions a call
            few = sampling_embed.sample_captions(toy, captions[:3], 3, prior=prior)
        np.testing.assert_allclose(few.image_emb, whole.image_emb[:3], atol=1e-5)
        assert whole.clip == params_digest(toy.stage("clip").params)
        expected = toy.tokenizer.encode(captions, toy.stage("clip").spec.model.text.context)
        np.testing.assert_array_equal(whole.tokens, expected.tokens)
        flat = whole.image_emb.reshape(15, -1)
        assert len(np.unique(flat.round(4), axis=0)) > 10
        other = sampling_embed.sample_captions(toy, captions, 3, prior=prior, seed=1)
        assert (other.image_emb != whole.image_emb).any()


@pytest.fixture(scope="module")
def world(toy, tmp_path_factory):
    """The toy bundle, and the file that the command makes of the shapes' captions."""
    folder = tmp_path_factory.mktemp("world")
    bundle.save(toy, folder / "toy", dtype="float32")
    args = ["--bundle", str(folder / "toy"), "--data", DATA, "--out", str(folder / "s")]
    made = CliRunner().invoke(embed, [*args, "--prior-draws", "2", "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.output)["captions"] > 1
    return folder


def config(world, *flags, stage="decoder"):
    given = [f"--config.clip={world / 'toy'}", f"--config.data.name={DATA}"]
    given += ["--config.train.steps=2", "--config.train.log_every=1", "--config.eval.batches=0"]
    return read_config(f"{ROOT}/configs/emoji/{stage}.py:smoke", [*given, *flags])


def test_a_decoder_trains_on_the_samples(world, tmp_path):
    """A share of 0 changes nothing, one of 1 does; another file is another run."""
    path = world / "s" / PRIOR_SAMPLES_FILE
    losses = {}
    for share in (None, 0.0, 1.0):
        flags = [] if share is None else [f"--config.train.prior_samples={path}"]
        flags += [f"--config.train.prior_share={share or 0.0}", "--config.train.cache_clip=True"]
        workdir = tmp_path / str(share)
        assert experiment.train(config(world, *flags), workdir)
        losses[share] = (workdir / "metrics.jsonl").read_text()
    assert losses[None] == losses[0.0] != losses[1.0]
    identity = json.loads((tmp_path / "1.0" / "config.json").read_text())["identity"]
    assert len(identity["prior_samples"]) == 64
    held = load_prior_samples(path, params_digest(toy_bundle().stage("clip").params))
    changed = tmp_path / "changed.safetensors"
    save_prior_samples(changed, dataclasses.replace(held, image_emb=held.image_emb + 1))
    path.write_bytes(changed.read_bytes())
    with pytest.raises(UserError, match="identity"):
        experiment.train(config(world, *flags), tmp_path / "1.0")


@pytest.mark.parametrize(("stage", "cache"), [("decoder", False), ("prior_diffusion", True)])
def test_where_samples_have_no_place(world, tmp_path, stage, cache):
    flags = ["--config.train.prior_samples=x", f"--config.train.cache_clip={cache}"]
    with pytest.raises(UserError, match="is for the decoder, with"):
        experiment.train(config(world, *flags, stage=stage), tmp_path / "w")
