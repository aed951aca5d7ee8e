"""Sizes that a config leaves open; a run's config against the one that it began with."""

import json
from pathlib import Path

import pytest

from unclip_jax.cli.config_files import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.train.resolve import resolve_model, write_or_check_config

ROOT = Path(__file__).resolve().parents[2]


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
