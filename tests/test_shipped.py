"""The bundle that ships: whole, small, and drawing what it is told."""

import numpy as np
import pytest

import unclip_jax
from unclip_jax.checkpoint import bundle
from unclip_jax.cli.config_files import read_config

LIMIT = 24 * 2**20  # bytes; git keeps every edition
PROMPTS = ["a red heart", "a blue heart", "a green apple", "a banana"]


@pytest.fixture(scope="module")
def model():
    return unclip_jax.load("emoji")


@pytest.fixture(scope="module")
def images(model):
    return unclip_jax.sample(model, PROMPTS, num=1, size=64)


def test_the_folder_is_whole_and_small():
    folder = bundle.resolve("emoji")
    bundle.load(folder, verify=True)
    assert sum(path.stat().st_size for path in folder.iterdir()) < LIMIT
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Microsoft", "Noto", "Twemoji", "CC-BY-4.0", "held out", "95% interval"):
        assert word in card, word


def test_it_says_where_it_comes_from(model):
    assert set(model.stages) == {"clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256"}
    for held in model.provenance["stages"].values():
        assert 0 < held["steps"] <= held["of_steps"]
        assert held["data"]["fingerprint"] and held["environment"]
    assert set(model.metrics) == {"retrieval", "prompts"}


@pytest.mark.parametrize(
    ("stage", "config"),
    [
        ("prior_diffusion", "prior_diffusion.py"),
        ("prior_ar", "prior_ar.py"),
        ("decoder", "decoder.py:tune"),
        ("upsampler_256", "upsampler_256.py"),
    ],
)
def test_it_is_sampled_as_its_configs_say(model, stage, config):
    """Both state the settings: what a new run exports is sampled like what ships."""
    settings = read_config(f"configs/emoji/{config}", [])["sampling"]
    ours = model.stages[stage].spec.sampling
    assert settings
    for name, value in settings.items():
        held = getattr(ours, name)
        assert (list(held) if isinstance(held, tuple) else held) == (
            list(value) if isinstance(value, tuple) else value
        ), name


def test_colours_are_those_of_the_prompts(images):
    """The mean of the middle of the picture, channel by channel: which is the strongest."""
    middle = images[:, 24:44, 24:40].astype(float).mean((1, 2))
    assert middle[0].argmax() == 0 and middle[0, 0] > 1.8 * middle[0, 1]  # red
    assert middle[1].argmax() == 2 and middle[1, 2] > 1.5 * middle[1, 0]  # blue
    assert middle[2].argmax() == 1 and middle[2, 1] > 1.5 * middle[2, 2]  # green
    ground = images[:, :3, :3].astype(float).mean((1, 2, 3))
    assert (ground > 240).all()  # white


def test_the_other_prior_draws_it_too(model):
    image = unclip_jax.sample(model, ["a red heart"], size=64, prior="ar")[0]
    middle = image[24:44, 24:40].astype(float).mean((0, 1))
    assert middle.argmax() == 0 and middle[0] > 1.8 * middle[1]


def test_its_clip_names_what_it_draws(model, images):
    probabilities = unclip_jax.classify(model, images, PROMPTS)
    assert (probabilities.argmax(1) == np.arange(len(PROMPTS))).all()


def test_an_image_embedding_decides_the_picture(model):
    """The decoder, told another image embedding with the same caption and noise, draws another."""
    text = unclip_jax.embed_text(model, ["", ""])
    noise = np.random.default_rng(0).standard_normal((1, 64, 64, 3)).repeat(2, 0)
    pictures = unclip_jax.sample(model, ["a red heart", "a blue heart"], size=64)
    image_emb = unclip_jax.embed_image(model, pictures)
    cond = unclip_jax.Cond(image_emb=image_emb, text=text)
    drawn = unclip_jax.run_stage(model, "decoder", cond, noise=lambda step, shape: noise)
    middle = drawn[:, 24:44, 24:40].mean((1, 2))
    assert middle[0].argmax() == 0 and middle[1].argmax() == 2
