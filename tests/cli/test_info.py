"""`unclip info`: the card in a terminal and as a page, also of a hostile bundle."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.report_page import Page
from unclip_jax.checkpoint.manifest import read_manifest
from unclip_jax.workflows.info_card import in_short, make_card, terminal_lines

HOSTILE = "\x1b[31m<script>alert(1)</script>"
CARD = """# toy

Draws toys
in two lines.

**What it draws.** Red *hearts*:

```bash
unclip sample "a red heart" "a toy" \\
    "a blue heart" --num 2
```

Not shown.

## Stages
"""


@pytest.fixture
def folder(toy_folder, tmp_path):
    """The toy bundle with a card, metrics, steps and an image."""
    copy = shutil.copytree(toy_folder, tmp_path / "toy")
    (copy / "README.md").write_text(CARD)
    found = json.loads((copy / "bundle.json").read_text())
    stages = {"decoder": {"steps": 7500, "train": {"batch_size": 16}, "data": {"name": HOSTILE}}}
    found["provenance"] |= {"git_commit": "abc123", "stages": stages}
    metric = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 1200, "baseline": 0.125}
    found["metrics"] = {"samples": {f"top_{k}": metric for k in range(1, 7)}, "fid": 3.5}
    found["stages"]["decoder"]["spec"]["sampling"]["guidance_interval"] = [0.5, 5.0]
    (copy / "bundle.json").write_text(json.dumps(found))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(copy / "samples.png")
    (copy / "damaged.png").write_bytes(b"no image")
    return copy


def test_the_card_says_what_a_user_asks(folder, unclip):
    code, out, _ = unclip("info", folder)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert {"Draws toys in two lines.", "What it draws. Red *hearts*"} <= set(lines)
    assert lines[lines.index("Example prompts") + 1 :][:3] == [
        "a red heart",
        "a toy",
        "a blue heart",
    ]
    size = (folder / "decoder.safetensors").stat().st_size / 2**20
    params = read_manifest(folder).stages["decoder"].params
    row = f"decoder {params:,} float16 {size:.2f} 7,500 x 16"
    assert [line for line in lines if line.startswith(row)]
    assert {"license Apache-2.0", "git_commit abc123"} <= set(lines)
    assert "upsampling 16 -> 32 pixels: upsampler_256" in lines
    assert "top_1 0.5 0.25 to 0.75 0.125 1,200" in lines
    assert "and 2 more, with --json or --html FILE" in lines and "fid 3.5" in lines
    assert "guidance_interval [0.5, 5.0]" in " ".join(lines)
    assert "Not shown." not in out


def test_a_narrow_terminal_breaks_no_words(folder):
    card = make_card(folder, read_manifest(folder))
    narrow, wide = terminal_lines(card, 20), terminal_lines(card, 200)
    assert " ".join(" ".join(narrow).split()).count("num_candidates") == sum(
        "num_candidates" in line for line in wide
    )
    blank = [i for i, line in enumerate(narrow) if not line]
    assert all(narrow[i + 1][0] != " " for i in blank)  # only before a title


@pytest.mark.parametrize("width", [80, 120])
def test_a_card_keeps_to_the_width(folder, width):
    card = make_card(folder, read_manifest(folder))
    card = dataclasses.replace(card, about=("word " * 100,))
    lines = terminal_lines(card, width)
    assert width - 10 < max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)  # which colors a terminal, or worse


def test_the_page_has_every_metric_and_the_images(folder, unclip, tmp_path, refused):
    path = tmp_path / "card.html"
    code, out, _ = unclip("info", folder, "--html", path)
    page = Page(path.read_text())
    assert (code, out) == (0, f"wrote {path}\n")
    assert all(f"top_{k}" in page.text for k in range(1, 7))
    assert [attrs["alt"] for tag, attrs in page.tags if tag == "img"] == ["samples"]
    assert "<script" not in path.read_text() and "http" not in path.read_text()
    assert "exists; choose another --html" in refused("info", folder, "--html", path)


def test_json_is_what_it_was(folder, unclip):
    code, out, _ = unclip("info", folder, "--json")
    keys = {"stages", "name", "license", "licence", "provenance", "metrics", "sampling", "cascade"}
    assert (code, set(json.loads(out))) == (0, keys | {"verified"})


def test_a_bundle_without_a_card_has_its_tables(toy_folder, unclip):
    code, out, _ = unclip("info", toy_folder)
    assert code == 0 and "Stages" in out and "Example prompts" not in out


@pytest.mark.parametrize(
    ("readme", "said"),
    [
        (CARD, "What it draws: Red *hearts*."),
        (
            f"{CARD}\n**What it cannot draw.** Scenes,\nor 1.5 things. Nor text.\n",
            "What it draws: Red *hearts*.",  # below the tables nothing counts
        ),
        (
            "**What it draws.** Toys.\n\n**What it cannot draw.** Scenes,\nor 1.5 things. No text.",
            "What it draws: Toys. What it cannot draw: Scenes, or 1.5 things.",
        ),
        ("# toy\n\nDraws toys\nin lines.\n\nMore.\n", "Draws toys in lines."),
        ("# toy\n", ""),
        (None, ""),
    ],
)
def test_a_bundle_says_in_short_what_it_draws(tmp_path, readme, said):
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    assert in_short(tmp_path) == said
