"""The command group: light, helpful, one line an error."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings

import jax
import numpy as np
import pytest
from PIL import Image

from unclip_jax.cli import main
from unclip_jax.cli.common import use_compile_cache
from unclip_jax.cli.main import COMMANDS
from unclip_jax.core.renamed import RenamedWarning


def test_every_command_has_help_with_an_example(unclip):
    for name in COMMANDS:
        code, out, _ = unclip(name, "--help")
        assert code == 0
        assert "unclip" in out.partition("Example")[2], name


def test_the_groups_help_lists_the_commands_and_imports_none():
    code = (
        "import sys\n"
        "from unclip_jax.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'jax', 'numpy', 'transformers'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in run.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Missing command"),
        (["data"], "Missing command"),
        (["smple"], "smple"),
        (["-q", "sample", "x"], "-q goes after the command: unclip sample -q"),
        (["--out", "a", "sample"], "--out goes after the command: unclip sample --out"),
        (["--nothing"], "No such option"),
        (["train", "--config", "configs/emoji/clip.py:smoke"], "--workdir"),
        (["info", "emojii"], "emojii"),
        (["info", "/"], "bundle.json"),
        (["sample", "x", "--model", "emojii"], "emojii"),
        (["classify", "no.png", "a", "--model", "emojii"], "no.png"),
    ],
)
def test_errors_are_one_line(refused, args, words):
    assert words in refused(*args)


def test_commands_compile_into_the_tests_cache():
    use_compile_cache()
    assert jax.config.jax_compilation_cache_dir == os.environ["JAX_COMPILATION_CACHE_DIR"]


def test_damaged_bundles_are_one_line(toy_folder, tmp_path, refused):
    copy = shutil.copytree(toy_folder, tmp_path / "toy")
    path = copy / "clip.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    assert "truncated" in refused("sample", "x", "--model", copy, "--out", tmp_path / "out")
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert "sha256" in refused("info", copy, "--verify")
    assert not (tmp_path / "out").exists()


def test_info_counts_parameters(toy_folder, unclip):
    code, out, _ = unclip("info", toy_folder, "--verify", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["stages"]["clip"]["dtype"] == "float16"
    from safetensors.numpy import load_file

    for name, stage in result["stages"].items():
        arrays = load_file(toy_folder / f"{name}.safetensors")
        assert stage["params"] == sum(array.size for array in arrays.values())
    assert (result["license"], result["provenance"]["data"]) == ("Apache-2.0", "none")
    code, out, _ = unclip("info", toy_folder)
    assert "16 -> 32 pixels: upsampler_256" in out


def test_classify_prints_probabilities(toy_folder, tmp_path, unclip, refused):
    image = tmp_path / "a.png"
    Image.fromarray(np.full((20, 30, 4), 200, np.uint8), "RGBA").save(image)
    args = ["classify", image, "a red heart", "the sun", "--model", toy_folder]
    code, out, _ = unclip(*args, "--json")
    labels = json.loads(out)["labels"]
    assert code == 0
    assert [entry["label"] for entry in labels] == ["a red heart", "the sun"]
    assert sum(entry["probability"] for entry in labels) == pytest.approx(1.0, abs=1e-5)
    image.write_bytes(b"no picture")
    assert str(image) in refused(*args)


def test_a_signal_is_acted_on_while_the_main_thread_does_not_come_back():
    """As in a compilation, which runs outside of Python: here a hash that takes minutes."""
    code = (
        "import hashlib, os, sys, threading, time\n"
        "from unclip_jax.cli import main\n"
        "main.own_signals()\n"
        "told = lambda: (time.sleep(0.5), os.write(1, b'busy'))\n"
        "threading.Thread(target=told).start()\n"
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**30)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout.read(4) == b"busy"
        start = time.monotonic()
        process.terminate()
        try:
            process.wait(timeout=10)
        finally:
            process.kill()
        assert (process.wait(), process.stderr.read()) == (143, b"\nunclip: interrupted\n")
        assert time.monotonic() - start < 5


def test_an_old_name_is_one_line_on_stderr(monkeypatch, capsys):
    usual = []
    monkeypatch.setattr(warnings, "showwarning", lambda *args, **kwargs: usual.append(args[0]))
    main.show_renames_in_one_line()
    warnings.showwarning(RenamedWarning("x.old is now called x.new"), RenamedWarning, "f.py", 1)
    assert capsys.readouterr().err == "unclip: x.old is now called x.new\n"
    warnings.showwarning(UserWarning("another"), UserWarning, "f.py", 1)
    assert [str(message) for message in usual] == ["another"]
    assert capsys.readouterr().err == ""
