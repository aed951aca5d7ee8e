"""z_i in training: the tower sees the very crop of the stage, at its own size, in every stage."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy import toy_bundle
from tests.training import toy
from unclip_jax.checkpoint import bundle
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.data.images import to_square
from unclip_jax.data.sources import load_source
from unclip_jax.models import clip as clip_lib
from unclip_jax.plan.estimate import planned_program
from unclip_jax.sampling.encode import encode_images
from unclip_jax.train import experiment
from unclip_jax.train.frozen_clip import image_embedding

ROOT = Path(__file__).resolve().parents[2]
SIDE = 16  # of the toy CLIP
DATA = "shapes:size=48,count=64"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP alone, and z_i of every held-out example that `unclip embed` would give."""
    held = toy_bundle()
    alone = dataclasses.replace(held, stages={"clip": held.stage("clip")}, cascade=())
    folder = bundle.save(alone, tmp_path_factory.mktemp("clip") / "clip", dtype="float32")
    source = load_source(DATA, "test")
    images = np.stack([to_square(source[i]["image"], SIDE) for i in range(len(source))])
    return folder, encode_images(alone, images)


class Enough(Exception):
    """Ends a run before its first step."""


def looked_at(config, workdir):
    """Returns the sizes of what the tower ran on and z_i of a held-out batch."""
    sizes, found, preprocess = set(), [], clip_lib.preprocess

    def spy(images, cfg):
        sizes.add(images.shape[1:3])
        return preprocess(images, cfg)

    def look(run):
        found.append(np.asarray(image_embedding(run.program.clip, run.constants, run.held_out[0])))
        raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_lib, "preprocess", spy)
        with pytest.raises(Enough):
            experiment.train(config, workdir, make_hooks=look)
    return sizes, found[0]


@pytest.mark.parametrize(
    ("stage", "side", "cached"),
    [
        ("decoder", 8, False),
        ("decoder", 8, True),
        ("prior_diffusion", 32, False),
        ("prior_ar", 8, False),
    ],
)
def test_the_tower_sees_its_own_size_and_the_very_crop(clip, stage, side, cached, tmp_path):
    """Also where something is fitted to training examples first (prior_ar)."""
    folder, expected = clip
    flags = [f"--config.clip={folder}", f"--config.data.name={DATA}"]
    flags += [f"--config.data.image_size={side}", f"--config.train.cache_clip={cached}"]
    if stage == "decoder":
        flags.append(f"--config.model.unet.image_size={side}")
    sizes, z = looked_at(read_config(f"{ROOT}/configs/emoji/{stage}.py:smoke", flags), tmp_path)
    assert sizes == {(SIDE, SIDE)}
    nearest = np.abs(z[:, None] - expected[None]).max(-1).min(1)
    assert nearest.max() < 1e-4
    assert np.abs(expected[0] - expected[1]).max() > 1e-2


def test_a_tower_is_never_given_another_size():
    decoder = toy("decoder")
    small = {"image": jnp.zeros((8, 4, 4, 3), jnp.uint8)}
    with pytest.raises(ValueError, match="4 x 4 pixels for a CLIP of 8"):
        image_embedding(decoder.clip, decoder.constants, small)


def planned(stage, *flags):
    path = ROOT / "configs" / "paper" / f"{stage}.py"
    clip = read_config(str(path.with_name("clip.py")), [])
    return planned_program(read_config(str(path), flags), clip)[0]


def test_the_papers_decoder_is_planned_with_images_for_its_clip():
    """64 px for the decoder, 256 px for CLIP; a prior sees what CLIP sees alone."""
    batch = planned("decoder").batch(2)
    assert (batch["image"].shape, batch["clip_image"].shape) == ((2, 64, 64, 3), (2, 256, 256, 3))
    prior = planned("prior_diffusion", "--config.data.image_size=64").batch(2)
    assert prior["image"].shape == (2, 256, 256, 3)
    assert "clip_image" not in prior


def test_a_stage_with_a_clip_has_no_windows(tmp_path):
    flags = ["--config.data.window=8"]
    with pytest.raises(UserError, match="window .*for upsamplers"):
        experiment.train(read_config(f"{ROOT}/configs/emoji/decoder.py:smoke", flags), tmp_path)
