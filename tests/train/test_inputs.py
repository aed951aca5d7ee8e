"""The batches of a run: seeds, splits and a prior's samples."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from tests.training import OPTIM, Toy
from unclip_jax.checkpoint.prior_samples import PriorSamples
from unclip_jax.core.errors import UserError
from unclip_jax.data.config import DataConfig
from unclip_jax.data.pipeline import open_source
from unclip_jax.train import inputs, resolve
from unclip_jax.train.config import EvalConfig, MeshConfig, TrainConfig
from unclip_jax.train.frozen_clip import FrozenClip
from unclip_jax.train.program import make_program
from unclip_jax.train.sharding import make_mesh

SEED = 7


@pytest.fixture
def watched(monkeypatch):
    """A decoder's inputs, the pipelines that they open and the embeddings that they mix in."""
    pipelines, mixed = [], []

    def make_batches(source, cfg, **options):
        pipelines.append((len(source), cfg, options))

    def make_host_transform(task, context, own, cache, sampled):
        mixed.append(sampled)
        return dict

    monkeypatch.setattr(inputs, "make_batches", make_batches)
    monkeypatch.setattr(inputs, "batch_iterator", lambda batches, cfg: itertools.repeat({}))
    monkeypatch.setattr(inputs, "make_host_transform", make_host_transform)
    toy = Toy("decoder")
    data = DataConfig(name="shapes:size=16,count=24", image_size=8, zoom=0.5)
    settings = resolve.Settings(
        seed=SEED,
        stage="decoder",
        clip="clip",
        init_from="",
        pca="",
        data=data,
        optim=OPTIM,
        train=TrainConfig(steps=10, batch_size=8, prior_share=0.25, prior_cosine=0.5),
        eval=EvalConfig(split="test", batches=2, batch_size=16),
    )
    made = inputs.RunInputs(
        program=make_program(settings, toy.spec, toy.clip.cfg),
        source=open_source(data),
        stores=None,
        samples=PriorSamples("abc", np.zeros((2, 6), np.int32), np.zeros((2, 3, 4), np.float32)),
        clip=FrozenClip(toy.clip, {}, None),
        tokenizer=None,
        mesh=make_mesh(MeshConfig(), jax.devices()[:1]),
        log=print,
    )
    return made, pipelines, mixed


def test_training_batches_are_of_the_runs_seed_and_mixed_with_a_priors_samples(watched):
    made, pipelines, mixed = watched
    made.training_batches()
    assert [(one.samples, one.share, one.seed) for one in mixed] == [(made.samples, 0.25, SEED)]
    assert mixed[0].least_cosine == 0.5
    ((count, cfg, options),) = pipelines
    assert (count, cfg.split, cfg.zoom) == (len(made.source), "train", 0.5)
    assert (options["seed"], options["batch_size"]) == (SEED, 8)


def test_held_out_batches_are_of_true_images_as_they_are(watched):
    """The same for every seed, so that runs can be compared."""
    made, pipelines, mixed = watched
    assert len(made.held_out_batches()) == 2
    assert mixed == [None]
    ((_, cfg, options),) = pipelines
    assert (cfg.split, cfg.zoom) == ("test", 0.0)
    assert (options["seed"], options["batch_size"]) == (0, 16)


def sides(made, min_side):
    """Returns the inputs of a run that uses images of at least a size."""
    settings = made.program.settings
    data = dataclasses.replace(settings.data, min_side=min_side)
    program = dataclasses.replace(made.program, settings=dataclasses.replace(settings, data=data))
    return dataclasses.replace(made, program=program)


def test_a_set_without_an_image_that_is_large_enough_is_refused_at_once(watched):
    made, pipelines, _ = watched
    sides(made, 16).training_batches()
    pipelines.clear()
    with pytest.raises(UserError, match="all 24 images looked at .* config.data.min_side=17 "):
        sides(made, 17).training_batches()
    assert not pipelines
