"""Config files: where they are found, how flags are read, one line per error."""

from pathlib import Path

import pytest

from unclip_jax.cli.config_files import find_config, read_config
from unclip_jax.cli.main import main
from unclip_jax.core.errors import UserError
from unclip_jax.train.resolve import read_settings

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


def test_none_clears_an_optional_field():
    flags = ["--config.optim.clip_norm=None", "--config.sampling.x0_bound=None"]
    config = read_config(str(ROOT / "configs/own/decoder.py"), flags)
    assert config["optim"]["clip_norm"] is None and config["sampling"]["x0_bound"] is None
    with pytest.raises(UserError, match="optim.b1: expected float, got None"):
        read_settings(read_config(str(ROOT / CLIP), ["--config.optim.b1=None"]))
    with pytest.raises(UserError, match="key config.optim.clip_nrm; did you mean clip_norm?"):
        read_config(str(ROOT / CLIP), ["--config.optim.clip_nrm=None"])
    with pytest.raises(UserError, match="unknown key config.optim.b1.x"):
        read_config(str(ROOT / CLIP), ["--config.optim.b1.x=None"])


def test_the_last_of_several_flags_of_a_field_counts():
    flag, none = "--config.optim.clip_norm=0.5", "--config.optim.clip_norm=None"
    for flags, value in (([flag, none], None), ([none, flag], 0.5)):
        assert read_config(str(ROOT / CLIP), flags)["optim"]["clip_norm"] == value
    named = read_config(str(ROOT / CLIP), ["--config.data.name=shapes:size=None"])
    assert named["data"]["name"] == "shapes:size=None"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--config.trian.steps=3", "unknown key config.trian.steps; did you mean train?"),
        ("--config.sampling.steps=3", "unknown key config.sampling.steps"),  # of a CLIP
        ("--config.model.decoder.width=3", "unknown key config.model.decoder.width"),
        ("--config.stage.name=3", "unknown key config.stage.name"),
    ],
)
def test_a_section_that_the_stage_does_not_have_is_an_unknown_key(flag, words):
    with pytest.raises(UserError) as error:
        read_config(str(ROOT / CLIP), [flag])
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("raise RuntimeError('boom')", "is not a config: RuntimeError: boom"),
        ("raise SystemExit(3)", "is not a config: SystemExit: 3"),
    ],
)
def test_whatever_a_config_file_raises_is_one_line(tmp_path, capsys, line, words):
    file = tmp_path / "own.py"
    file.write_text(f"def get_config():\n    {line}\n")
    assert words in fails(capsys, "--config", str(file), "--workdir", str(tmp_path / "run"))


@pytest.mark.parametrize("section", ["model", "diffusion", "sampling", "embedding_norm", "data"])
def test_a_section_that_the_stage_needs_is_not_none(section):
    config = read_config(str(ROOT / "configs/own/decoder.py"), [f"--config.{section}=None"])
    with pytest.raises(UserError, match=f"config.{section} is None; stage decoder needs it"):
        read_settings(config | {"clip": "b"})


def test_a_pca_does_not_go_with_an_untrained_clip():
    config = read_config(
        str(ROOT / "configs/own/decoder.py:smoke"), ["--config.pca=pca.safetensors"]
    )
    with pytest.raises(UserError, match="config.pca is of a trained CLIP"):
        read_settings(config)


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
    with pytest.raises(UserError, match="config.trian"):
        read_settings({"trian": {}})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("train", "--confg", "x", "--workdir", "w"), "--confg; did you mean --config?"),
        (("train", "--config", "x", "--work-dir=w"), "--work-dir; did you mean --workdir?"),
        (("plan", "--confg=x"), "--confg; did you mean --config?"),
        (("train", "--config.train.steps=1", "--workdir", "w"), "Missing option '--config'"),
        (("train", "--profle", "3", "--workdir", "w"), "Missing option '--config'"),
    ],
)
def test_a_misspelled_required_option_is_not_just_missing(refused, args, words):
    assert words in refused(*args)
