"""The configs for a set of one's own are of none in particular; the emoji's say what to change.

That the former train is seen by README's own commands (test_readme.py).
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclip_jax.cli.config_files import read_config
from unclip_jax.cli.main import main
from unclip_jax.data.ingest import ingest
from unclip_jax.train.resolve import read_settings

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("clip", "prior_diffusion", "decoder", "upsampler_256")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """16 images that are not square, with a caption each."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(
            folder / "images" / f"{i}.png"
        )
        (folder / "images" / f"{i}.txt").write_text(f"thing number {i} of mine")
    ingest(str(folder / "images"), folder / "set", test_share=0.3)
    return folder / "set"


def run(capsys, *args):
    """Returns the exit code and stderr of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize("stage", STAGES)
def test_full_configs_are_of_no_set_in_particular(stage, own):
    flags = [f"--config.data.name={own}", "--config.clip=bundle"]
    settings = read_settings(read_config(str(ROOT / "configs" / "own" / f"{stage}.py"), flags))
    assert (settings.data.split, settings.eval.split) == ("train", "test")
    assert (settings.data.concepts, settings.data.styles) == ("all", ())


@pytest.mark.parametrize("stage", STAGES)
def test_a_config_of_no_set_asks_for_one(stage, tmp_path, capsys):
    config = str(ROOT / "configs" / "own" / f"{stage}.py")
    code, err = run(capsys, "train", "--config", config, "--config.clip=random",
                    "--workdir", str(tmp_path / "run"))  # fmt: skip
    assert code == 2
    assert "config.data.name is not set: pass --config.data.name=DIR" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("stage", "flags"),
    [
        ("clip:smoke", ("--config.eval.split=test_concepts", "--config.train.steps=1")),
        ("decoder:smoke", ("--config.data.concepts=common",)),
    ],
)
def test_what_fits_the_emoji_alone_names_the_flag(stage, flags, own, tmp_path, capsys):
    args = ["--config", str(ROOT / f"configs/emoji/{stage.replace(':', '.py:')}")]
    args += ["--workdir", str(tmp_path / "run"), f"--config.data.name={own}", *flags]
    code, err = run(capsys, "train", *args)
    remedy = "--config.eval.split=test" if "clip" in stage else "--config.data.concepts=all"
    assert code == 2
    assert err.splitlines()[-1].startswith("unclip: error: ")
    assert remedy in err.splitlines()[-1]
