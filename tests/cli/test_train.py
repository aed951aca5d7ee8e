"""`unclip train`: a missing data set, and progress before and after the first step."""

import time
from pathlib import Path

import pytest

from unclip_jax.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
CLIP = "configs/emoji/clip.py"


def test_a_missing_data_set_names_its_remedy(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("UNCLIP_DATA", str(tmp_path / "none"))
    base = ("--config", str(ROOT / CLIP), "--workdir", str(tmp_path / "w"))
    assert "unclip data prepare emoji" in refused("train", *base)


def test_it_says_what_is_done_before_the_first_step(capsys, tmp_path, monkeypatch):
    from unclip_jax.train import experiment

    monkeypatch.delenv("TQDM_DISABLE", raising=False)

    def train(config, workdir, *, make_progress, **rest):
        time.sleep(2.5)
        bar = make_progress(0, 20)
        time.sleep(2.5)
        bar.set_postfix_str("step 1/20")
        time.sleep(2.5)
        return True

    monkeypatch.setattr(experiment, "train", train)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", f"{ROOT / CLIP}:smoke", "--workdir", str(tmp_path / "w")])
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and out.endswith("w: finished\n")
    lines = [line for line in err.splitlines() if "reading the config" not in line]
    assert lines == ["unclip: loading data and models", "unclip: first steps", "step 1/20"]
