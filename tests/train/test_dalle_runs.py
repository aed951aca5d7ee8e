"""DALL·E by the commands: both stages trained, exported together, and sampled without a CLIP."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import unclip_jax
from unclip_jax.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--config.train.steps=2", "--config.eval.batches=0"]


def command(*args):
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return stop.value.code


def train(stage, folder, *flags):
    config = f"{ROOT}/configs/emoji/{stage}.py:smoke"
    return command("train", "--config", config, "--workdir", folder / stage, *QUICK, *flags)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Both runs, and the bundle of the discrete VAE that the second was trained on."""
    folder = tmp_path_factory.mktemp("dalle")
    assert train("dvae", folder) == 0
    assert command("export", folder / "dvae", "--out", folder / "dvae_bundle") == 0
    assert train("dalle", folder, f"--config.dvae={folder / 'dvae_bundle'}") == 0
    return folder


def test_from_runs_to_an_image(runs, capsys):
    out = runs / "bundle"
    assert command("export", runs / "dvae", runs / "dalle", "--out", out) == 0
    capsys.readouterr()
    images = runs / "images"
    code = command("sample", "a red circle", "--model", out, "--out", images, "--prior-temperature",
                   "0.5", "--json")  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    assert code == 0 and Path(result["images"][0]["path"]).exists()
    chosen = {key: result["settings"][key] for key in ("size", "prior", "prior_temperature")}
    assert chosen == {"size": 16, "prior": "dalle", "prior_temperature": 0.5}
    assert result["settings"]["sampler"] is None and result["settings"]["steps"] is None
    assert command("info", out) == 0
    shown = capsys.readouterr().out
    assert "dvae" in shown and "dalle" in shown
    model = unclip_jax.load(out)
    assert unclip_jax.sample(model, "a red circle").shape == (1, 16, 16, 3)


def test_the_run_records_its_discrete_vae(runs):
    config = json.loads((runs / "dalle" / "config.json").read_text())
    assert config["dvae"] == str(runs / "dvae_bundle") and len(config["identity"]["dvae"]) == 64
    values = unclip_jax.load(runs / "dvae_bundle").stage("dvae").params["codebook"]
    assert np.isfinite(values).all()


def test_what_does_not_fit_is_one_line(runs, tmp_path, capsys):
    dvae = f"--config.dvae={runs / 'dvae_bundle'}"

    def refused(*args):
        assert command(*args) == 2
        return capsys.readouterr().err.splitlines()[-1]

    config = f"{ROOT}/configs/emoji/dalle.py:smoke"
    start = ["train", "--config", config, "--workdir", tmp_path / "run"]
    assert "needs a trained dvae: pass --config.dvae=BUNDLE" in refused(*start, "--config.dvae=")
    wide = refused(*start, dvae, "--config.model.dvae.code_width=9")
    assert "the dvae in" in wide and "has other sizes than config.model.dvae" in wide
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert "has no stage 'dvae'" in refused(*start, "--config.dvae=emoji")
    other = shutil.copytree(runs / "dalle", tmp_path / "dalle")
    values = json.loads((other / "config.json").read_text())
    values["identity"]["dvae"] = "0" * 64
    (other / "config.json").write_text(json.dumps(values))
    pair = ["export", runs / "dvae", other, "--out", tmp_path / "mixed"]
    assert "was trained on another dvae" in refused(*pair)
    assert not (tmp_path / "mixed").exists()
