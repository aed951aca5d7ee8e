"""Priors trained on a store: the losses that the images give, resuming, and what is refused."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.toy import CAPTIONS, toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.cli.config_files import read_config
from unclip_jax.cli.embed import embed
from unclip_jax.core.errors import UserError
from unclip_jax.data.embeddings import StoreMeta, begin_store, shard_path
from unclip_jax.data.ingest import ingest
from unclip_jax.data.store_pipeline import StoredExamples
from unclip_jax.plan.estimate import make_plan, planned_program
from unclip_jax.train import experiment, setup
from unclip_jax.train.frozen_clip import params_of
from unclip_jax.train.loop import Hook
from unclip_jax.train.stores import Stores

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("prior_diffusion", "prior_ar")
PICTURES = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A CLIP, a set of images with one caption each, and the stores of its splits."""
    folder = tmp_path_factory.mktemp("world")
    toy, rng = toy_bundle(), np.random.default_rng(0)
    alone = type(toy)("toy", {"clip": toy.stage("clip")}, tokenizer=toy.tokenizer)
    bundle.save(alone, folder / "clip", dtype="float16")
    (folder / "images").mkdir()
    for i in range(PICTURES):
        colors = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(colors).save(folder / "images" / f"{i}.png")
        (folder / "images" / f"{i}.txt").write_text(f"{CAPTIONS[i % 6]} {i}")
    ingest(str(folder / "images"), folder / "set", test_share=0.4)
    for split in ("train", "test"):
        made = CliRunner().invoke(embed, [*embed_args(folder, split), "--shard-size", "6"])
        assert made.exit_code == 0, made.output
    return folder


def embed_args(folder, split):
    data = ("--data", str(folder / "set"), "--split", split)
    return ["--bundle", str(folder / "clip"), *data, "--out", str(folder / split)]


def config(world, stage, *flags, stored=True, text="clip_states"):
    given = [f"--config.clip={world / 'clip'}", f"--config.data.name={world / 'set'}"]
    given += [f"--config.model.text={text}", "--config.data.crop=center"]
    given += ["--config.train.cache_clip=False", "--config.train.log_every=1"]
    given += ["--config.train.steps=6", "--config.eval.every=3"]
    if stored:
        given += [f"--config.data.embeddings={world / 'train'}"]
        given += [f"--config.eval.embeddings={world / 'test'}"]
    return read_config(f"{ROOT}/configs/emoji/{stage}.py:smoke", [*given, *flags])


def record(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", params=STAGES)
def unbroken(world, request, tmp_path_factory):
    """The stage, its workdir and what the run held, where images and their set cannot be had."""
    workdir, held = tmp_path_factory.mktemp(f"stored_{request.param}"), {}

    def never(*args):
        raise AssertionError("images were opened")

    def look(run):
        held.update(clip=set(run.clip.params), constants=set(run.constants.clip))
        held.update(batch=set(run.held_out[0]))
        return ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "open_source", never)
        patch.setattr(setup, "fingerprint", never)
        assert experiment.train(config(world, request.param), workdir, make_hooks=look)
    return request.param, workdir, held


def assert_same_record(found, expected):
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-3, atol=1e-5)


def test_the_losses_are_those_of_the_images(world, unbroken, tmp_path):
    """One caption per image and no cropping: the same order, examples and noise, held-out too."""
    stage, workdir, _ = unbroken
    assert experiment.train(config(world, stage, stored=False), tmp_path)
    assert_same_record(record(workdir), record(tmp_path))
    assert any("held_out/loss" in row for row in record(workdir))


def test_a_prior_that_reads_its_own_tokens_needs_no_tower(world, tmp_path):
    """z_t comes from the store; the features that cache_clip looks up are no others."""
    stage, towers = "prior_diffusion", []

    def look(run):
        towers.append(run.constants.clip is not None)
        return ()

    told = config(world, stage, "--config.train.cache_clip=True", text="tokens")
    assert experiment.train(told, tmp_path / "stored", make_hooks=look)
    seen = config(world, stage, stored=False, text="tokens")
    assert experiment.train(seen, tmp_path / "seen", make_hooks=look)
    assert towers == [False, True]
    assert_same_record(record(tmp_path / "stored"), record(tmp_path / "seen"))


def test_a_stopped_run_resumes_to_the_bit(world, unbroken, tmp_path):
    stage, workdir, _ = unbroken

    def terminate(step, state):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    make_hooks = lambda run: (Hook(1, terminate),)  # noqa: E731
    assert not experiment.train(config(world, stage), tmp_path, make_hooks=make_hooks)
    assert experiment.train(config(world, stage), tmp_path)
    assert record(tmp_path) == record(workdir)


def test_a_run_holds_no_image_tower_and_says_what_it_was_fed(world, unbroken):
    _, workdir, held = unbroken
    assert held["constants"] == held["clip"] == {"text", "logit_scale"}
    assert held["batch"] == {"image_emb", "tokens", "mask"}
    identity = json.loads((workdir / "config.json").read_text())["identity"]
    meta = json.loads((world / "train" / "meta.json").read_text())
    assert (identity["clip"], identity["data"]) == (meta["clip"], meta["data"]["fingerprint"])
    assert len(set(identity["embeddings"].values())) == 2


def test_another_store_in_the_same_place_is_not_resumed_with(world, unbroken, monkeypatch):
    stage, workdir, _ = unbroken
    monkeypatch.setattr(StoredExamples, "fingerprint", lambda self: self.folder.name)
    with pytest.raises(UserError, match="changed: config.identity.embeddings.train"):
        experiment.train(config(world, stage), workdir)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["eval.embeddings="], "needs the store of eval.split too.*unclip embed.*--split test "),
        (["data.embeddings="], "config.eval.embeddings needs config.data.embeddings"),
        (["clip=random"], "needs the CLIP that made the store"),
        (["data.captions=first"], "captions='first' is not applied to a store"),
        (["eval.split=train"], "of split 'test', config.eval.split is 'train'"),
        (["data.split=test"], "of split 'train', config.data.split is 'test'"),
        (["data.concepts=common"], "of concepts 'all'.*unclip embed .*--concepts common --out DIR"),
        (["data.styles=('3d','flat')"], r"of styles \[\].*--styles 3d,flat"),
        (["data.name=emoji"], "is a store of name .*--data emoji"),
        (["data.embeddings=none"], "there is no folder none; make it with: unclip embed"),
    ],
)
def test_what_does_not_fit_is_one_line(world, flags, words, tmp_path):
    flags = [f"--config.{flag}" for flag in flags]
    with pytest.raises(UserError, match=words) as refused:
        experiment.train(config(world, "prior_ar", *flags), tmp_path / "run")
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()


def test_other_stages_and_other_clips_are_refused(world, tmp_path):
    with pytest.raises(UserError, match="stage clip needs the images"):
        experiment.train(config_of_clip(world), tmp_path / "run")
    other = toy_bundle(seed=1)
    bundle.save(type(other)("o", {"clip": other.stage("clip")}, tokenizer=other.tokenizer),
                tmp_path / "clip")  # fmt: skip
    with pytest.raises(UserError, match="contains the embeddings of another CLIP"):
        told = config(world, "prior_ar", f"--config.clip={tmp_path / 'clip'}")
        experiment.train(told, tmp_path / "run")
    shards = len(list((world / "train").glob("*.array_record")))
    gone = shard_path(world / "train", 0, shards)
    kept = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(UserError, match="is missing: run unclip embed again"):
            experiment.train(config(world, "prior_ar"), tmp_path / "run")
    finally:
        gone.write_bytes(kept)


def test_the_held_out_store_is_of_the_same_clip_too(tmp_path):
    held = {}
    for name, clip in (("train", "a" * 64), ("held_out", "b" * 64)):
        meta = StoreMeta(clip, {}, width=4, context=12, examples=2, shard_size=2)
        begin_store(tmp_path / name, meta)
        held[name] = object.__new__(StoredExamples)  # without shards, which nobody reads here
        held[name].folder, held[name].meta = tmp_path / name, meta
    stores = Stores(**held)
    for clip in ("a" * 64, "b" * 64):
        with pytest.raises(UserError, match="embeddings of another CLIP"):
            stores.check_clip(clip)
    Stores(held["train"], None).check_clip("a" * 64)
    assert stores.describe_cut(12) is stores.describe_cut(None) is None
    assert "keeps 12 tokens of a caption, where the stage reads 13" in stores.describe_cut(13)


def config_of_clip(world):
    flag = f"--config.data.embeddings={world / 'train'}"
    return read_config(f"{ROOT}/configs/emoji/clip.py:smoke", [flag])


def test_a_plan_counts_the_text_tower_alone(world):
    """Forward of the image tower, by its sizes, is what a store saves; a plan needs no store."""
    seen = make_plan(config(world, "prior_ar", stored=False))
    stored = make_plan(config(world, "prior_ar"))
    vision = toy_bundle().stage("clip").spec.model.vision
    tokens, width = 1 + (vision.image_size // vision.patch_size) ** 2, vision.width
    tower = 2 * (tokens - 1) * vision.patch_size**2 * 3 * width + 2 * width * 16
    tower += vision.layers * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)
    saved = seen.flops_per_image - stored.flops_per_image
    assert saved == pytest.approx(tower, rel=1e-3)
    program, _ = planned_program(config(world, "prior_ar", text="tokens"))
    assert program.constants.clip is None and program.constants.empty is not None
    assert set(program.batch(2)) >= {"image_emb", "text_emb", "own_tokens"}
    assert make_plan(config_of_clip(world)).flops_per_image > 0


def test_only_the_image_tower_is_left_out_of_parameters():
    clip = toy_bundle().stage("clip").params
    assert set(params_of(clip, ("text",))) == set(clip) - {"vision"}
    assert params_of(clip, ("image", "text")) is clip
