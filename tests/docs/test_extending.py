"""The changes that docs/extending.md describes are made in a copy of the package, and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.docs.shell import smoke_text

PAGE = "docs/extending.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", TEXT, re.M)


def section_of(block):
    """Returns the heading above a block."""
    above = "\n".join(TEXT.splitlines()[: block.line])
    return re.findall(r"^## (.+)$", above, re.M)[-1]


def apply_diff(tree, text):
    """Changes a file: what the diff keeps and takes away is found there once."""
    head, *lines = text.splitlines()
    path = tree / head.removeprefix("--- ")
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
    code = path.read_text(encoding="utf-8")
    assert code.count(old) == 1, f"{PAGE} changes lines that {head} does not have:\n{old}"
    path.write_text(code.replace(old, new), encoding="utf-8")


def run(tree, block):
    """Runs a block on the copy, `unclip` being the copy's."""
    stand_in = f'unclip() {{ "{sys.executable}" -m unclip_jax "$@"; }}\n'
    command = ["bash", "-euc", stand_in + smoke_text(block.text)]
    if block.language == "python":
        command = [sys.executable, "-c", block.text]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(tree), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_complete(section, tmp_path):
    for folder in ("unclip_jax", "configs", "tests"):
        leave = shutil.ignore_patterns("__pycache__", "bundles", "golden")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "unclip_jax" / "bundles").symlink_to(ROOT / "unclip_jax" / "bundles")
    for block in blocks(PAGE):
        if section_of(block) != section:
            continue
        if block.kind == "new file":
            path = tmp_path / block.note
            assert not path.exists()
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "diff":
            apply_diff(tmp_path, block.text)
        elif block.kind == "run":
            run(tmp_path, block)
