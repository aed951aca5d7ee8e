"""A run's config against the one it was begun with, whichever version wrote that one."""

import json
from pathlib import Path

import pytest

from unclip_jax.cli.config_files import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.train.resolve import write_or_check_config

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
