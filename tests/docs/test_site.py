"""Pages that are generated, links to files outside docs/, and the check of the built site."""

import dataclasses
import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import unclip_jax
from tests.docs.blocks import ROOT, pages
from tools.docs import api_pages, check_site, commands, config_fields
from tools.docs.repo_pages import GENERATED, LINK, PAGES, rewrite_links
from unclip_jax import api
from unclip_jax.cli.main import COMMANDS
from unclip_jax.core.chips import CHIPS, GIB

PACKAGE = ROOT / "unclip_jax"


def test_every_command_has_its_help():
    text = commands.page()
    for name in COMMANDS:
        section = text.split(f"\n## unclip {name}\n", 1)[1].split("\n## ", 1)[0]
        assert f"Usage: unclip {name}" in section
        assert "--help" in section
    for name in ("ingest", "prepare", "show"):
        assert f"Usage: unclip data {name}" in text


def test_every_field_of_a_config_is_described():
    for _, cls in config_fields.sections():
        for _, nested in config_fields.walk("section", cls):
            texts = config_fields.field_texts(nested)
            fields = [field.name for field in dataclasses.fields(nested)]
            assert [name for name in fields if not texts.get(name)] == [], nested.__name__


def test_a_row_of_a_field():
    assert "| `ema_decay` | float | `0.9999` |" in config_fields.page()
    assert '| `dtype` | `"float32"`, `"bfloat16"` | `\'float32\'` |' in config_fields.page()


def test_every_folder_has_a_page():
    """But for the commands, which have one of another kind."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"cli"}
    assert set(api_pages.PACKAGES) == folders
    made = api_pages.pages(PACKAGE)
    modules = {f"::: unclip_jax.diffusion.{p.stem}" for p in PACKAGE.glob("diffusion/[a-z]*.py")}
    assert modules == set(re.findall(r"^:::.*$", made["reference/api/diffusion.md"], re.M))
    for name in ("load", "sample", "Bundle", "SampleSettings", "LatentSettings"):
        assert f"::: unclip_jax.api.{name}\n" in made["reference/python.md"]


FUNCTIONS = [name for name in unclip_jax.__all__ if inspect.isfunction(getattr(unclip_jax, name))]
ITEM = r"^    \*{0,2}(\w+)(?: \([^)]*\))?: "  # of Args: or Attributes:, as mkdocstrings reads it


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_call_says_what_it_takes_returns_and_raises(name):
    call = getattr(unclip_jax, name)
    # Python 3.13 leaves out the indentation that all lines share; getdoc does so everywhere.
    head, _, rest = inspect.getdoc(call).partition("\nArgs:\n")
    assert re.findall(ITEM, rest.partition("\n\n")[0], re.M) == list(
        inspect.signature(call).parameters
    )
    assert len(head.splitlines()[0]) < 100
    assert "\nReturns:\n" in rest and "\nRaises:\n    UserError: " in rest


@pytest.mark.parametrize("name", ["Bundle", "Cond", "TextFeatures", *api_pages.SETTINGS])
def test_a_public_class_describes_its_fields(name):
    """Those of a struct with their types, since they are annotated `Any`."""
    cls = getattr(api, name)
    fields = [field.name for field in dataclasses.fields(cls)]
    doc = inspect.getdoc(cls)
    assert re.findall(ITEM, doc.partition("Attributes:\n")[2], re.M) == fields
    for field in dataclasses.fields(cls):
        assert field.type is not Any or f"    {field.name} (" in doc


@pytest.mark.parametrize(
    ("page", "link", "made"),
    [
        ("scale.md", "[hosts](../launch/README.md)", "[hosts](hosts.md)"),
        ("gallery/README.md", "[a](../../SECURITY.md#files)", "[a](../security.md#files)"),
        ("scale.md", "[rules](../unclip_jax/train/sharding.py)", "rules"),
        ("index.md", "[calls](../unclip_jax/api.py)", "[calls](reference/python.md)"),
        ("index.md", "[tour](tour.ipynb)", "[tour](tour.md)"),
        ("security.md", "[own data](docs/own_data.md)", "[own data](own_data.md)"),
        ("model_card.md", "![loss](curves.png)", "![loss](curves.png)"),
        ("scale.md", "[paper](https://arxiv.org/abs/2204.06125)", None),
        ("scale.md", "[plans](plans.md)", None),
        ("scale.md", "```text\n[a](../Makefile)\n```", None),
    ],
)  # fmt: skip
def test_links_go_where_the_files_have_gone(page, link, made):
    assert rewrite_links(f"See\n{link}\n", page) == f"See\n{made or link}\n"


@pytest.mark.parametrize("page", pages())
def test_links_work_in_a_checkout(page):
    """The site's hook points them at the pages that files outside docs/ become."""
    targets = {m["target"] for m in LINK.finditer((ROOT / page).read_text(encoding="utf-8"))}
    folder = (ROOT / page).parent
    assert [t for t in targets if ":" not in t and not (folder / t).exists()] == []


def test_every_page_of_the_repository_is_there():
    missing = [source for source in (*PAGES, *GENERATED) if not (ROOT / source).exists()]
    assert missing == []
    assert "launch/README.md" in pages()


def test_the_page_on_scaling_lists_the_chips_of_a_topology():
    rows = [
        f"| `{chip.name}` | {chip.flops / 1e12:g} | {chip.hbm_bytes / GIB:.0f} "
        f"| {chip.hbm_rate / 1e9:,.0f} |"
        for chip in CHIPS.values()
    ]
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `\w+` \| \d.*$", text, re.M) == rows


LOADS = {
    '<script src="https://example.org/a.js"></script>': 1,
    '<link rel="stylesheet" href="//example.org/a.css">': 1,
    '<img src="http://example.org/a.png">': 1,
    "<style>@font-face {src: url(https://example.org/a.woff)}</style>": 1,
    '<p style="background: url(https://example.org/a.png)">': 1,
    '<link rel="canonical" href="https://example.org/">': 0,
    '<a href="https://example.org/">a link that one may follow</a>': 0,
    '<script src="assets/a.js"></script><img src="data:image/png;base64,AA">': 0,
}


@pytest.mark.parametrize("html", LOADS)
def test_what_a_page_loads_from_elsewhere_is_found(html, tmp_path):
    (tmp_path / "index.html").write_text(f"<html><body>{html}</body></html>")
    assert len(check_site.remote_loads(tmp_path)) == LOADS[html]
    assert check_site.main(tmp_path) == LOADS[html]


def test_a_style_sheet_is_looked_at_and_a_site_has_an_index(tmp_path):
    (tmp_path / "a.css").write_text("@import 'https://example.org/b.css';")
    command = [sys.executable, "-m", "tools.docs.check_site", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "index.html is missing" in done.stderr
    (tmp_path / "index.html").write_text("<html></html>")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "https://example.org/b.css" in done.stderr
