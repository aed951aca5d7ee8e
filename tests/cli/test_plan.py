"""`unclip plan`: text and JSON, and what it refuses."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

from tests.shipped_configs import ROOT
from unclip_jax.cli.config_files import read_config, write_changes
from unclip_jax.core.config_dict import changes_between

DESIGN = {  # the keys that design promises
    "params",
    "state_bytes",
    "flops_per_image",
    "flops_per_step",
    "chips",
    "hbm_bytes_per_chip",
    "hbm_limit_bytes",
    "step_seconds_bound",
    "days",
    "collectives",
}
CONFIG = "configs/emoji/upsampler_256.py"


def test_json(unclip):
    code, out, err = unclip("plan", "--config", CONFIG, "--topology", "v5p:2x2x1", "--json")
    assert (code, err) == (0, "")
    made = json.loads(out)
    assert set(made) >= DESIGN
    assert made["chips"] == 4 and made["hbm_limit_bytes"] == 95 * 2**30
    assert made["flops_per_step"] == made["flops_per_image"] * made["batch_size"]
    assert made["days"] * 86400 == made["step_seconds_bound"] * made["steps"]
    assert made["hbm_bytes_per_chip"] is None and made["collectives"] is None


def test_text_with_and_without_chips(unclip):
    code, out, _ = unclip("plan", "--config", CONFIG, "--config.train.batch_size=64")
    assert code == 0 and "FLOPs per step of 64 " in out and "--topology" in out
    out = unclip("plan", "--config", CONFIG, "--topology", "h100:8")[1]
    assert "8 x h100, mesh data 8 x fsdp 1 x tensor 1" in out and "chip-hours" in out


def test_refusals(refused, unclip):
    assert "v5x:3" in refused("plan", "--config", CONFIG, "--topology", "v5x:3")
    assert "multiple of 3" in refused("plan", "--config", CONFIG, "--topology", "v5e:3")
    assert "needs --topology" in refused("plan", "--config", CONFIG, "--compile")
    gpu = ("plan", "--config", CONFIG, "--topology", "h100:8", "--compile")
    code, out, err = unclip(*gpu)
    no_compiler = "h100:8 is compiled on a machine with such a card only"
    assert (code, out) == (2, "") and no_compiler in err.splitlines()[-1]
    search = (*gpu[:-1], "--search", "--compiles", "1")
    assert no_compiler in refused(*search)
    for topology in ("", "v5p:\u0664x4x4", "v5p:4x4x4x4"):
        assert "write CHIP:SHAPE" in refused("plan", "--config", CONFIG, "--topology", topology)
    effort = ("--topology", "v5p:2x2x1", "--search", "--effort", "nan")
    assert "--effort is a number from -1 to 1" in refused("plan", "--config", CONFIG, *effort)
    assert "no config file" in refused("plan", "--config", "none.py")
    fsdp = "--config.train.mesh.fsdp=3"
    assert "does not fit" in refused("plan", "--config", CONFIG, fsdp, "--topology", "v5p:2x2x1")


def test_libtpu_that_is_not_there_is_one_line(unclip, monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, err = unclip("plan", "--config", CONFIG, "--topology", "v5p:2x2x1", "--compile")
    assert (code, out) == (2, "")
    assert "pip install '.[plan]' in a checkout" in err.splitlines()[-1]


def test_a_clip_that_is_yet_to_be_trained(unclip):
    """Its config in place of a bundle: the step encodes pictures and captions itself."""
    prior = ("plan", "--json", "--config", "configs/paper/prior_diffusion.py")
    alone = json.loads(unclip(*prior)[1])
    made = json.loads(unclip(*prior, "--config.clip=configs/paper/clip.py")[1])
    assert made["params"] == alone["params"]
    # ViT-H/16 on 257 positions and the text tower on 77, forward: 2 x parameters x positions.
    towers = 2 * 257 * 632e6 + 2 * 77 * 302e6
    more = made["flops_per_image"] - alone["flops_per_image"]
    assert 0.9 * towers < more < 1.3 * towers


def test_a_mesh_that_splits_too_little_is_said(unclip):
    wide = ("plan", "--config", f"{CONFIG}:smoke", "--config.train.batch_size=8192", "--json")
    wide += ("--topology", "v5p:8x8x8", "--config.train.mesh.data=-1")
    assert "times its share of the state" in unclip(*wide, "--config.train.mesh.fsdp=512")[2]
    code, out, err = unclip(*wide, "--config.train.mesh.fsdp=2")
    assert (code, err) == (0, "") and json.loads(out)["mesh"] == [256, 2, 1]


def test_sizes_of_the_clip_are_the_shipped_ones_unless_it_is_named(unclip):
    command = ("plan", "--config", "configs/emoji/decoder.py:smoke", "--json")
    code, assumed, err = unclip(*command)
    assert code == 0 and "shipped bundle 'emoji'" in err and "--config.clip=BUNDLE" in err
    code, named, err = unclip(*command, "--config.clip=emoji")
    assert (code, err) == (0, "")
    assert json.loads(assumed)["params"] == json.loads(named)["params"]


SMALL = (
    "--config=configs/paper/upsampler_256.py:smoke",
    "--config.train.batch_size=8",
    "--config.model.unet.channel_mult=(1,)",
    "--config.train.blur_prob=0.0",
    "--config.eval.batches=0",
)


def test_search_writes_the_fastest_as_a_config(unclip, tmp_path):
    out = tmp_path / "fast.py"
    search = ("plan", *SMALL, "--topology", "h100:4", "--search", "--json", "--out", out)
    code, text, _ = unclip(*search)
    found = json.loads(text)
    assert code == 0 and found["config"] == str(out) and found["topology"] == "h100:4"
    assert {row["source"] for row in found["rows"]} == {"estimated"}  # nothing compiles for GPUs
    (chosen,) = [row for row in found["rows"] if row["is_chosen"]]
    assert chosen["on_front"] and math.prod(chosen["mesh"]) == 4
    made = read_config(str(out), ())
    assert made["model"]["unet"]["remat"] == chosen["remat"]
    assert made["train"]["accumulation"] == chosen["accumulation"]
    mesh = made["train"]["mesh"]
    assert [mesh["data"], mesh["fsdp"], mesh["tensor"]] == chosen["mesh"]
    # The flags of the search are kept, everything else is the config's own.
    before = read_config(SMALL[0].partition("=")[2], SMALL[1:])
    assert set(changes_between(before, made)) <= {
        "model.unet.remat",
        "train.accumulation",
        *(f"train.mesh.{axis}" for axis in ("data", "fsdp", "tensor")),
    }
    code, text, _ = unclip("plan", "--config", out, "--topology", "h100:4", "--json")
    assert code == 0 and json.loads(text)["batch_size"] == 8


def test_a_written_config_of_ones_own_is_found_from_elsewhere(tmp_path, monkeypatch):
    own = tmp_path / "a" / "mine.py"
    own.parent.mkdir()
    own.write_text((ROOT / "configs/paper/upsampler_256.py").read_text())
    monkeypatch.chdir(tmp_path)
    write_changes(Path("b.py"), "a/mine.py:smoke", {"train.mesh.fsdp": 2, "seed": 7}, "about")
    monkeypatch.chdir("/")
    made = read_config(str(tmp_path / "b.py"), ())
    assert (made["seed"], made["train"]["mesh"]["fsdp"], made["train"]["steps"]) == (7, 2, 20)


def test_options_that_do_not_go_together(refused, tmp_path):
    plan = ("plan", "--config", f"{CONFIG}:smoke")
    chips = (*plan, "--topology", "v5p:2x2x1")
    assert "--search needs --topology" in refused(*plan, "--search")
    assert "leave --compile out" in refused(*chips, "--search", "--compile")
    assert "pass --compile too" in refused(*chips, "--save", tmp_path / "x")
    assert "pass --search too" in refused(*chips, "--compiles", 3)
    assert "pass one of them" in refused(*chips, "--effort", 0)
    save = ("--compile", "--save", tmp_path / "x")
    assert "as a run does: leave --effort out" in refused(*chips, *save, "--effort", 0)
    away = tmp_path / "none" / "x.py"
    assert "there is no folder" in refused(*chips, "--search", "--out", away)
    assert "name the chips" in refused(*plan, "--topology", "local")
    assert "ends in .py" in refused(*chips, "--search", "--out", tmp_path / "x.txt")
    (tmp_path / "x.py").write_text("kept")
    assert "exists" in refused(*chips, "--search", "--out", tmp_path / "x.py")
    assert (tmp_path / "x.py").read_text() == "kept"


def test_an_evaluation_that_does_not_split_is_one_line(refused, tmp_path):
    """On this process's eight devices."""
    held_out = ("--config.eval.batches=1", "--config.eval.batch_size=12")
    save = ("--topology", "local", "--compile", "--save", tmp_path / "x")
    message = refused("plan", *SMALL, *held_out, *save)
    assert "config.eval.batch_size=12 must be a multiple of the 8 devices" in message
    assert not (tmp_path / "x").exists()


def test_a_run_finds_the_programs_that_were_saved(tmp_path):
    """In processes of their own, as on another machine: the run compiles neither step nor state."""
    small = (*SMALL, "--config.train.steps=1", "--config.train.sample_every=0")
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    env |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def run(*args, **more):
        command = [sys.executable, "-m", "unclip_jax", *args, "--json"]
        done = subprocess.run(command, env=env | more, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    folder = str(tmp_path / "programs")
    saved = run("plan", "--compile", "--topology", "local", "--save", folder, *small)["programs"]
    assert [program["name"] for program in saved] == ["training step", "initial state"]
    assert not any(program["was_there"] for program in saved)
    workdir = ("--workdir", str(tmp_path / "run"))
    programs = run("train", *small, *workdir, JAX_COMPILATION_CACHE_DIR=folder)["programs"]
    for name in ("jit(step)", "jit(create)"):
        assert programs["fetched"][name] == 1 and name not in programs["compiled"]
