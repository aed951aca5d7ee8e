"""README says what a newcomer needs, in order, and no more; its blocks run in tests/docs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^## (.+)$", README, re.M)
LINKS = re.findall(r"\]\(([^)#:\s]+)\)", README)


def section(heading):
    return re.split(r"^## ", README.split(f"## {heading}\n", 1)[1], flags=re.M)[0]


def test_it_is_short():
    assert len(README.split()) <= 900


def test_what_it_is_comes_first_then_the_image_then_the_rest_in_order():
    head = README.split("## ", 1)[0]
    paper, citation, image = "arxiv.org/abs/2204.06125", "```bibtex", "![24 prompts"
    assert head.index(paper) < head.index(citation) < head.index(image)
    order = ["Install and sample", "What is in it", "Results", "Train on your own data", "Layout"]
    assert HEADINGS == [*order, "Links"]


def test_results_are_five_rows():
    rows = [line for line in section("Results").splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 5  # the heading; the rule beneath it begins "|--"


def test_training_takes_six_lines():
    (block,) = re.findall(r"```bash\n(.*?)```", section("Train on your own data"), re.S)
    assert len(block.splitlines()) == 6


@pytest.mark.parametrize("link", LINKS)
def test_its_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_layers_are_those_of_the_structure_test():
    from tests.test_structure import FLOORS

    table = dict(re.findall(r"^\| (\d) \| (.+?) \|", section("Layout"), re.M))
    for name, layer in FLOORS.items():
        if not name.startswith("__"):
            folder = "api.py" if name == "api" else name
            assert f"`{folder}`" in table[str(layer)]
