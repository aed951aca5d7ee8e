"""Completion in a real bash: commands, options, names, files; scripts of the other shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
ASK = """
compopt() { HOW="$1 $2"; }  # bash has it only while a key is pressed
ask() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); HOW=
  _unclip_completion unclip
  echo "$* = ${COMPREPLY[*]} $HOW"
}
eval "$(unclip completion bash)"
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A folder with this tree's `unclip`, and an empty one to type in."""
    folder = tmp_path_factory.mktemp("shim")
    program = folder / "unclip"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unclip_jax "$@"\n')
    program.chmod(0o755)
    (folder / "empty").mkdir()
    return folder


def in_bash(shim, questions):
    """Returns the answers to words as bash splits them; the last one is to be completed."""
    asked = "".join(f"ask {' '.join(map(repr, words))}\n" for words in questions)
    env = {**os.environ, "PATH": f"{shim}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    call = {"cwd": shim / "empty", "env": env, "capture_output": True, "text": True}
    run = subprocess.run(["bash", "--norc", "-c", ASK + asked], **call, check=True)
    assert run.stderr == ""
    answers = [line.rpartition(" = ")[2].split() for line in run.stdout.splitlines()]
    assert len(answers) == len(questions)
    return answers


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_what_is_typed(shim):
    expected = {
        ("unclip", "in"): {"interpolate", "inpaint", "info"},
        ("unclip", "data", "pre"): {"prepare"},
        ("unclip", "sample", "x", "--mo"): {"--model"},
        ("unclip", "sample", "--model", "e"): {"emoji", "-o", "dirnames"},
        ("unclip", "info", "em"): {"emoji", "-o", "dirnames"},
        ("unclip", "sample", "--sampler", "dd"): {"ddpm", "ddim"},
        ("unclip", "eval", "--suite", "re"): {"reconstruction", "retrieval"},
        ("unclip", "vary", "h"): {"-o", "default"},
        ("unclip", "train", "--work"): {"--workdir"},
        ("unclip", "train", "--config", "x", "--workdir", "r"): {"-o", "dirnames"},
        ("unclip", "plan", "--config", "configs/paper/c"): {
            "configs/paper/clip.py",
            "-o",
            "default",
        },
        # `--config=FILE:smoke --w`, as bash splits it
        ("unclip", "train", "--config", "=", "configs/own/c"): {
            "configs/own/clip.py",
            "-o",
            "default",
        },
        ("unclip", "train", "--config", "=", "my.py", ":", "smoke", "--work"): {"--workdir"},
    }
    found = in_bash(shim, expected)
    assert dict(zip(expected, map(set, found), strict=True)) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_for_unclip(unclip, shell):
    code, out, err = unclip("completion", shell)
    assert (code, err) == (0, "")
    assert f"_UNCLIP_COMPLETE={shell}_complete" in out and "unclip" in out


def test_a_folder_of_configs_comes_before_the_shipped_ones(tmp_path, monkeypatch):
    from unclip_jax.cli.completion import ConfigFile

    def offered():
        option = click.Option(["--config"], type=ConfigFile())
        context = click.Context(click.Command("train", params=[option]))
        items = option.shell_complete(context, "configs/own/d")
        return [(item.type, item.value) for item in items]

    monkeypatch.chdir(tmp_path)
    file = ("file", "configs/own/d")
    assert offered() == [file, ("plain", "configs/own/decoder.py")]
    (tmp_path / "configs").mkdir()
    assert offered() == [file]


def test_other_shells_are_refused(refused):
    assert "'ksh'" in refused("completion", "ksh")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["frobnicate"], "there are sample, "),
        (["evall"], "did you mean eval?"),
        (["x" * 5000], "there are sample, "),
        (["two\nlines"], "there are sample, "),
        (["sample", "--json"], "no prompt given"),
        (["sample", "x", "--json", "--size", "17"], "17"),
    ],
)
def test_errors_suggest_and_stay_on_one_line(refused, args, words):
    line = refused(*args)
    assert words in line and len(line) < 400
