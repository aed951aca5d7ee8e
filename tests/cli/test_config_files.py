"""Config files: where they are found, how flags are read, one line per error."""

import dataclasses
import typing
from pathlib import Path

import pytest

from unclip_jax.cli.config_files import find_config, read_config
from unclip_jax.cli.main import main
from unclip_jax.core.errors import UserError
from unclip_jax.data.pipeline import DataConfig
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.stages import STAGES
from unclip_jax.train.config import EvalConfig, OptimConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[2]
CLIP = "configs/emoji/clip.py"


def fails(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["train", *args])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == "" and err.startswith("unclip: error: ") and err.count("\n") == 1
    return err


def test_flags_change_values_and_keep_their_type():
    flags = ["--config.optim.learning_rate=1", "--config.optim.clip_norm=0.5", "--config.clip=b"]
    config = read_config(str(ROOT / CLIP), [*flags, "--config.data.styles=('3d',)"])
    assert config["optim"]["learning_rate"] == 1.0
    assert config["optim"]["clip_norm"] == 0.5
    assert (config["clip"], config["data"]["styles"]) == ("b", ("3d",))


SECTION_CLASSES = {"data": DataConfig, "optim": OptimConfig, "train": TrainConfig}
SECTION_CLASSES |= {"eval": EvalConfig}
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.py") if "get_config" in p.read_text())


def fields_of(cls, section, path):
    """Yields the dotted key and the value of every field of a dataclass and of those in it."""
    for field in dataclasses.fields(cls):
        key = f"{path}.{field.name}"
        assert field.name in section, f"{key} cannot be reached by a flag"
        kinds = typing.get_args(typing.get_type_hints(cls)[field.name])
        kinds = [k for k in (*kinds, typing.get_type_hints(cls)[field.name])]
        nested = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if nested is not None and section[field.name] is not None:
            yield from fields_of(nested, section[field.name], key)
        elif nested is None:
            yield key, section[field.name]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_field_of_every_section_can_be_reached_by_a_flag(path):
    loaded = read_config(str(path), [])
    stage = loaded["stage"]
    classes = {"model": STAGES[stage].config, "sampling": STAGES[stage].sampling}
    classes |= {"diffusion": DiffusionConfig, "embedding_norm": EmbeddingNorm, **SECTION_CLASSES}
    known = {
        key: value
        for name, cls in classes.items()
        if loaded.get(name) is not None
        for key, value in fields_of(cls, loaded[name], f"config.{name}")
    }
    samples = {k: v for k, v in known.items() if isinstance(v, int | float)}
    samples |= {f"config.{k}": 1 for k in ("optim.clip_norm", "train.save_seconds")}
    flags = [f"--{key}={value}" for key, value in samples.items()]
    assert len(flags) > 40
    read_config(str(path), flags)


def test_threads_of_the_data_can_be_set():
    assert read_config(str(ROOT / CLIP), ["--config.data.threads=16"])["data"]["threads"] == 16


def test_a_config_missing_here_is_found_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(CLIP).read_text() == (ROOT / CLIP).read_text()
    assert find_config("emoji/clip.py").samefile(find_config(CLIP))
    (tmp_path / "configs" / "emoji").mkdir(parents=True)
    (tmp_path / CLIP).write_text("mine")
    assert find_config(CLIP).read_text() == "mine"


def test_a_misspelt_flag_is_one_line(capsys, tmp_path):
    base = ("--config", str(ROOT / CLIP), "--workdir", str(tmp_path / "w"))
    for flag in ("--config.foo=1", "--config.optim.learning_rat=1", "--confg.seed=1"):
        assert flag.strip("-").partition("=")[0] in fails(capsys, *base, flag)
    assert "did you mean --config.seed?" in fails(capsys, *base, "--confg.seed=1")
    assert "did you mean --workdir?" in fails(capsys, *base, "--workdirr=x")
    assert "abc" in fails(capsys, *base, "--config.optim.learning_rate=abc")
    assert not (tmp_path / "w").exists()


def test_a_missing_config_is_one_line(capsys, tmp_path):
    assert "nothing.py" in fails(capsys, "--config", "nothing.py", "--workdir", str(tmp_path))


def test_an_unknown_section_is_named(tmp_path):
    from unclip_jax.train.resolve import read_settings

    with pytest.raises(UserError, match="config.trian"):
        read_settings({"trian": {}})
