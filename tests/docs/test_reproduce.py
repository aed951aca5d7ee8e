"""docs/reproduce.md: its tables are those of the rows, and its commands exist."""

import click
import pytest

from tools.docs import reproduce
from unclip_jax.cli.main import unclip


def test_the_page_is_up_to_date():
    """`python -m tools.docs.reproduce` fills it in."""
    text = reproduce.PAGE.read_text(encoding="utf-8")
    assert reproduce.filled(text) == text


def test_a_table_whose_markers_are_gone_is_named():
    text = reproduce.PAGE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="no markers <!-- limits: begin -->"):
        reproduce.filled(text.replace("<!-- limits: end -->", ""))


@pytest.mark.parametrize("words", reproduce.smoke_commands(), ids=" ".join)
def test_a_command_takes_its_options(words):
    """Parsed, not run: `make reproduce-smoke` runs them all."""
    command = unclip.get_command(click.Context(unclip), words[0])
    found = command.make_context(words[0], words[1:]).params
    assert "DIR" not in words or str(found["out"]) == "DIR"
    assert words[0] != "eval" or found["smoke"]


def test_our_numbers_are_those_of_their_files():
    """By hand from docs/evals/reconstruction.md and pca_sam.md."""
    cells = {(row[0], row[5]) for table in reproduce.tables().values() for row in table
             if len(row) == 6}  # fmt: skip
    ours = dict(cells)
    psnr = "34.9 (34.34 to 35.42), n = 64 ([reconstruction](evals/reconstruction.md))"
    assert psnr in ours["Figure 3, measured"]
    assert "19, n = 5,464 ([pca_sam](evals/pca_sam.md); with SAM, of 128)" in ours["§2.2"]
    assert ours["§5.1"].startswith("not measured<br>")  # 21 images are no Fréchet distance
    assert ours["Figure 13"].startswith("not measured<br>")
