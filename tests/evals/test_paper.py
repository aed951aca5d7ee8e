"""The paper's rows: whole, true to their files; the suite that runs them all."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.evals.suites import SETTINGS
from unclip_jax.core.errors import UserError
from unclip_jax.evals import paper, paper_rows
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import SUITE_NAMES, output_files

ROOT = Path(__file__).resolve().parents[2]
ROWS = paper_rows.rows()


def test_every_table_and_figure_has_a_row():
    items = " ".join(row.item for row in ROWS)
    figures = " ".join(re.findall(r"Figures? \d+(?:, \d+)*(?: and \d+)?", items))
    assert {int(n) for n in re.findall(r"\d+", figures)} == set(range(1, 21))
    assert {f"Table {i}" for i in (1, 2, 3)} <= {row.item for row in ROWS}
    assert len({row.item for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.item)
def test_a_row_says_how_it_is_made(row):
    assert row.group in paper_rows.GROUPS
    assert bool(row.suite) != bool(row.command)
    assert not row.suite or row.suite in SUITE_NAMES
    assert set(row.files) <= set(output_files(row.suite) if row.suite else ())
    assert set(row.stages) <= {stage.stage for stage in paper_rows.planned()}
    assert not row.see or (ROOT / "docs" / row.see).is_file()
    assert row.needs and row.shows
    for number in row.numbers:
        assert number.paper or number.metric
        if number.file:
            report = json.loads((ROOT / number.file).read_text(encoding="utf-8"))
            assert number.name in report["metrics"]


def test_published_numbers_are_the_papers():
    """Table 2 of arXiv 2204.06125, in the order of its lines."""
    table = """35.49 - -; 32.64 - -; 21.42 - -; 20.79 - -; 9.33 - -; 8.12 26.94 -; 7.55 - 11.84;
        - 28 -; - 12.24 12.89; - 10.63 11.08; - 10.39 10.87"""
    ours = [
        [cell.removeprefix("about ") or "-" for cell in (row.fid, row.zero_shot, row.filtered)]
        for row in paper_rows.published()
    ]
    assert ours == [line.split() for line in table.split(";")]


def test_the_papers_numbers_are_the_papers():
    """Table 1, Table 2's last lines and §5.1 of arXiv 2204.06125, in the order of the rows."""
    table_1 = ["47.1% ± 3.1", "41.1% ± 3.0", "62.6% ± 3.0", "48.9% ± 3.1", "45.3% ± 3.0"]
    expected = {
        "Table 1": [*table_1, "70.5% ± 2.8"],
        "Table 2": ["10.63", "10.39", "11.08", "10.87"],
        "Table 3": ["1B", "1B", "3.5B", "700M", "300M"],
        "§5.1": ["FID 7.99", "FID 9.16", "FID 16.55", "", "57.0% ± 3.1", "53.1% ± 3.1"],
        "§2.2": ["319 of 1,024", ""],
    }
    found = {row.item: [number.paper for number in row.numbers] for row in ROWS}
    assert {item: found[item] for item in expected} == expected
    ar, diffusion = (row for row in ROWS if row.item == "Table 1"), "diffusion prior: "
    assert [n.what.startswith(diffusion) for n in next(ar).numbers] == [False] * 3 + [True] * 3
    assert not any(any(papers) for item, papers in found.items() if item not in expected)


def test_coco_is_measured_whole():
    """`unclip data ingest` holds a fiftieth out, which no row may take for the validation set."""
    rows = [row for row in ROWS if "COCO" in row.options.split()]
    assert {row.item for row in rows} == {
        *("Table 1", "Table 2"),
        *("Figure 10", "Figure 11", "Figure 12"),
    }
    for row in rows:
        words = row.options.split()
        assert words[words.index("--split") + 1] == "train" and "--prompts" in words
        wants = any(number.metric.rpartition("/")[2][:3] == "fid" for number in row.numbers)
        assert ("inception:WEIGHTS" in words) == wants


def fake(measured, seen):
    """A stand-in of write_suite: writes nothing, measures the given suites, refuses others."""

    def write(name, model, settings, recorded, folder, others=()):
        seen.append((name, model, settings, [label for label, _ in others]))
        if name not in measured:
            raise UserError(f"suite {name} needs something")
        found = {"metrics": {key: m.to_dict() for key, m in measured[name].items()}}
        if others:
            found["compare"] = [{"model": label, **found} for label, _ in others]
        return found, ""

    return write


FID = {"fid": Metric(12.5, 12.0, 13.0, 500, recipe="FID, prior diffusion, guidance 1")}


def test_numbers_stand_beside_the_papers(model, tmp_path):
    seen = []
    write = fake({"fidelity": FID, "gallery": {}}, seen)
    others = [("theirs", model)]
    report, text = paper.write_paper(tmp_path, model, SETTINGS, {"model": "m"}, others, write)
    assert json.loads((tmp_path / "paper.json").read_text(encoding="utf-8")) == report
    assert text == (tmp_path / "paper.md").read_text(encoding="utf-8")
    assert [name for name, *_ in seen] == paper_rows.suites()
    assert {name: labels for name, *_, labels in seen}["gallery"] == []
    assert {name: labels for name, *_, labels in seen}["fidelity"] == ["theirs"]
    assert set(report["metrics"]) == {"fidelity/fid"}
    rows = {row["item"]: row for row in report["rows"]}
    assert list(rows) == [row.item for row in ROWS]
    ours = {number["what"]: number for number in rows["Table 2"]["numbers"]}
    assert ours["FID, diffusion prior"]["paper"] == "10.39"
    assert ours["FID, diffusion prior"]["ours"]["value"] == 12.5
    assert ours["FID, AR prior"]["ours"] is None
    value = "12.5 (12 to 13), n = 500"
    line = f"FID, diffusion prior | 10.39 | {value}; theirs: {value} |"
    assert line in text and "| FID, AR prior | 10.63 | not measured |" in text
    assert rows["§5.1"]["status"] == "not run: suite priors needs something"
    assert rows["Figure 3"]["files"] == ["fig3_variations.png"]
    assert "[fig3_variations.png](fig3_variations.png)" in text


def test_a_number_of_another_kind_says_so(model, tmp_path):
    """Nothing is called FID without Inception's features, as the metric's name must tell."""
    for row in ROWS:
        for number in row.numbers:
            named = number.metric.rpartition("/")[2].startswith("fid")
            asked = "FID" in number.what + number.paper
            assert not asked or not number.metric or named or number.differs
    found = {"decoded/diffusion/frechet": Metric(0.3, None, None, 9)}
    write = fake({"priors": found}, [])
    _, text = paper.write_paper(tmp_path, model, SETTINGS, {"model": "m"}, (), write)
    assert "| unCLIP | FID 7.99 | 0.3, n = 9 (Fréchet distance of unit CLIP embeddings) |" in text


def test_a_number_of_another_prior_is_not_ours(model, tmp_path):
    recorded, kept = {"model": "m"}, {"frechet_clip": Metric(1.0, None, None, 9)}
    for prior, ours in (("ar", [12.5, None]), ("diffusion", [None, 12.5]), ("none", [None, None])):
        fid = dataclasses.replace(FID["fid"], recipe=f"FID, prior {prior}, guidance 1")
        write = fake({"fidelity": {"fid": fid, **kept}}, [])
        report, _ = paper.write_paper(tmp_path, model, SETTINGS, recorded, (), write)
        numbers = next(row["numbers"] for row in report["rows"] if row["item"] == "Table 2")
        assert [n["ours"] and n["ours"]["value"] for n in numbers[:2]] == ours


def test_a_prior_is_for_the_suites_that_sample_by_it(model, tmp_path):
    seen, asked = [], dataclasses.replace(SETTINGS, prior="ar")
    paper.write_paper(tmp_path, model, asked, {"model": "m"}, (), fake({"fidelity": FID}, seen))
    chosen = {name: settings.prior for name, _, settings, _ in seen}
    assert chosen["fidelity"] == chosen["preference"] == "ar"
    assert chosen["binding"] is None and chosen["priors"] is None


def test_where_nothing_runs_the_reason_is_given(model, tmp_path):
    first = paper_rows.suites()[0]
    with pytest.raises(UserError, match=f"suite {first} needs something"):
        paper.write_paper(tmp_path, model, SETTINGS, {"model": "m"}, (), fake({}, []))
    assert list(tmp_path.iterdir()) == []


def test_a_smoke_run_judges_by_the_models_own_clip(model, tmp_path):
    small = dataclasses.replace(SETTINGS, smoke=True)
    for settings, judge in ((SETTINGS, None), (small, model)):
        seen = []
        recorded = {"model": "m", "smoke": settings.smoke}
        write = fake({"fidelity": FID}, seen)
        report, _ = paper.write_paper(tmp_path, model, settings, recorded, (), write)
        assert {id(chosen.eval_clip) for _, _, chosen, _ in seen} == {id(judge)}
        assert ("note" in report) == settings.smoke
