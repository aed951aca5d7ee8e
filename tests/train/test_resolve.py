"""Sizes that a config leaves open; a run's config against the one that it began with."""

import json
from pathlib import Path

import pytest

from unclip_jax.checkpoint import bundle
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.text.tokenizer import Tokenizer
from unclip_jax.train.resolve import (
    own_tokenizer,
    read_settings,
    resolve_model,
    write_or_check_config,
)

ROOT = Path(__file__).resolve().parents[2]
CLIP = ClipConfig(
    16,
    VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
    TextConfig(vocab_size=600, width=24, layers=1, heads=2, context=12),
)


def upsampler(*flags):
    return read_config(str(ROOT / "configs/emoji/upsampler_256.py:smoke"), flags)


@pytest.fixture
def begun(tmp_path):
    """The config.json of a run, and how to change it as another version would have it."""
    path = tmp_path / "config.json"
    write_or_check_config(path, upsampler(), is_fresh=True)

    def change(section, **values):
        config = json.loads(path.read_text())
        config[section] |= values
        path.write_text(json.dumps(config))

    return path, change


def test_fields_that_are_gone_do_not_matter_at_the_values_that_did_nothing(begun):
    path, change = begun
    change("data", focus_concepts="all", focus_styles=[], focus_times=1)
    change("optim", final_fraction=0.0)
    write_or_check_config(path, upsampler(), is_fresh=False)


@pytest.mark.parametrize(
    ("section", "field", "value"), [("data", "focus_times", 3), ("optim", "final_fraction", 0.1)]
)
def test_fields_that_are_gone_are_named_where_they_did_something(begun, section, field, value):
    path, change = begun
    change(section, **{field: value})
    with pytest.raises(UserError, match=f"another config; changed: config.{section}.{field}. "):
        write_or_check_config(path, upsampler(), is_fresh=False)


def test_the_vocabularys_size_is_compared_and_the_speed_of_the_input_is_not(begun):
    path, _ = begun
    write_or_check_config(path, upsampler("--config.data.threads=7"), is_fresh=False)
    with pytest.raises(UserError, match="changed: config.data.vocab_size. "):
        write_or_check_config(path, upsampler("--config.data.vocab_size=700"), is_fresh=False)


def test_a_clip_that_an_upsampler_does_not_read_is_left_out(begun):
    """One set of flags serves all stages; earlier versions noted the CLIP and its digest."""
    path, change = begun
    named = upsampler("--config.clip=runs/clip_bundle")
    assert read_settings(named).clip == ""
    write_or_check_config(path, named | {"identity": {"clip": None, "data": "d"}}, is_fresh=True)
    change("identity", clip="0123")
    later = upsampler() | {"identity": {"clip": None, "data": "d"}}
    write_or_check_config(path, later, is_fresh=False)
    later["identity"]["data"] = "e"
    with pytest.raises(UserError, match="changed: config.identity.data. "):
        write_or_check_config(path, later, is_fresh=False)


@pytest.mark.parametrize(("width", "scale"), [(1024, 17.2), (256, 8.6), (16, 2.15)])
def test_sizes_left_open_are_the_clips(width, scale):
    """The paper's 17.2 at width 1024 is a deviation of 0.5375 in every coordinate."""
    vision = VisionConfig(image_size=32, patch_size=8, width=16, layers=1, heads=2)
    text = TextConfig(vocab_size=600, width=24, layers=1, heads=2, context=12)
    config = {
        "stage": "prior_diffusion",
        "model": {
            "transformer": {"width": 16, "layers": 1, "heads": 2},
            **{"image_dim": 0, "text_dim": 0, "context": 0, "vocab_size": 99},
        },
        "diffusion": {"prediction": "x0"},
        "embedding_norm": {"kind": "l2", "scale": 0},
    }
    made = resolve_model(config, ClipConfig(width, vision, text), 600)
    assert made["embedding_norm"]["scale"] == pytest.approx(scale)
    expected = {"image_dim": width, "text_dim": 24, "context": 12, "vocab_size": 99}
    assert {key: made["model"][key] for key in expected} == expected
    assert config["model"]["image_dim"] == 0


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("prior_diffusion.py", {"vocab_size": 2048}),  # reads CLIP's states
        ("prior_ar.py:smoke", {"text_dim": 16}),  # reads its own tokens
        ("decoder.py:smoke_glide", {"text_dim": 16, "text_context": 16}),
    ],
)
def test_sizes_that_earlier_versions_filled_in_without_need_are_no_change(name, filled, tmp_path):
    config = resolve_model(read_config(str(ROOT / "configs/emoji" / name), []), CLIP, 600)
    assert not filled.keys() & {k for k, v in config["model"].items() if v is not None}
    before = json.loads(json.dumps(config))
    before["model"] |= filled
    before["data"]["vocab_size"] = before["data"]["vocab_size"] or 0
    path = tmp_path / "config.json"
    path.write_text(json.dumps(before))
    write_or_check_config(path, config, is_fresh=False)
    before["model"]["image_dim"] = 8
    path.write_text(json.dumps(before))
    with pytest.raises(UserError, match="changed: config.model.image_dim. "):
        write_or_check_config(path, config, is_fresh=False)


@pytest.mark.parametrize(
    ("name", "flag", "words"),
    [
        ("own/decoder.py", "image_dim=8", "image_dim=8 does not fit the CLIP's 16"),
        ("own/decoder.py", "text_context=8", "text_context=8 does not fit the CLIP's 12"),
        ("own/prior_diffusion.py", "text_dim=8", "text_dim=8 does not fit the CLIP's 24"),
        ("own/prior_diffusion.py", "context=8", "context=8 does not fit the CLIP's 12"),
        ("paper/prior_ar.py:smoke", "vocab_size=599", "vocab_size=599 does not fit the token"),
        ("paper/decoder.py:smoke", "text_encoder.vocab_size=9", "text_encoder.vocab_size=9 does"),
        ("paper/decoder.py", "text_encoder.context=8", "image_dim=1024 does not fit the CLIP's"),
    ],
)
def test_sizes_that_do_not_fit_the_clip_name_the_flag(name, flag, words):
    config = read_config(str(ROOT / "configs" / name), [f"--config.model.{flag}"])
    with pytest.raises(UserError, match=f"{words}.*pass --config.model.[a-z_.]+=None, "):
        resolve_model(config, CLIP, 600)


def test_own_text_may_be_longer_and_of_more_words_than_the_clips():
    flags = ["--config.model.image_dim=None"]
    config = read_config(str(ROOT / "configs/paper/prior_ar.py"), flags)
    config["model"]["codec"]["components"] = 9
    model = resolve_model(config, CLIP, 600)["model"]
    assert (model["vocab_size"], model["context"], model["image_dim"]) == (49408, 256, 16)


def test_a_vocabulary_to_train_needs_a_size(tmp_path):
    settings = read_settings(upsampler())
    with pytest.raises(UserError, match="pass --config.data.vocab_size=8192"):
        own_tokenizer(tmp_path / "tokenizer.json", None, settings, 16, is_fresh=True)


def test_a_clip_that_starts_from_a_bundle_keeps_its_vocabulary(tmp_path):
    """A new one would give the learned token embeddings to other words."""
    config = read_config(str(ROOT / "configs/emoji/clip.py:smoke"), ["--config.init_from=emoji"])
    path = tmp_path / "tokenizer.json"
    kept = own_tokenizer(path, None, read_settings(config), 16, is_fresh=True)
    given = bundle.load("emoji", stages=["clip"]).tokenizer
    assert (kept.vocab, kept.merges, kept.context) == (given.vocab, given.merges, 16)
    assert Tokenizer.load(path).vocab == given.vocab
