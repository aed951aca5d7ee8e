"""report.html of a run: what it shows is the record, and nothing about it can end a run."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.report_page import Page, assert_plots, recorded
from unclip_jax.core import charts
from unclip_jax.train import report
from unclip_jax.train.report import Report

HOSTILE = "<script>alert('a')</script>"
STEPS = 40


def write_lines(path, rows):
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_record(folder, steps):
    """The record of so many steps of two seconds, with 20 s of set-up and 60 of compilation."""
    steps = range(1, steps + 1)
    loss = lambda step: 3.0 / step + 0.5  # noqa: E731
    rows = [{"step": s, "loss": loss(s), "loss_q1": 0.1, "grad_norm": 1 + s % 3} for s in steps]
    write_lines(folder / "metrics.jsonl", rows)
    held_out = [{"step": s, "held_out/loss": 2 * loss(s)} for s in steps if s % 10 == 0]
    write_lines(folder / "metrics.jsonl", held_out)
    rates = [{"step": s, "images_per_second": 100.0 + s, "seconds": 2.0} for s in steps]
    write_lines(folder / "timings.jsonl", rates)
    phases = [(0, "set-up", 20.0), (1, "compile", 60.0)]
    rows = [dict(zip(("step", "phase", "seconds"), row, strict=True)) for row in phases]
    write_lines(folder / "phases.jsonl", rows)
    return folder


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    write_record(folder, STEPS)
    config = {"stage": HOSTILE, "data": {"name": HOSTILE}, "train": {"steps": 50}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps([{"date": "2026", "commit": HOSTILE}]))
    for step in range(2, STEPS + 3, 2):
        image = Image.new("RGB", (600, 300), (5 * step, 0, 0))
        image.save(folder / "samples" / f"{step:08d}.png")
    return folder


def written(folder, log=pytest.fail):
    Report(folder, log).write()
    return Page((folder / "report.html").read_text())


def test_curves_are_the_record(run):
    page = written(run)
    metrics, timings = run / "metrics.jsonl", run / "timings.jsonl"
    assert_plots(page, "loss", "training", recorded(metrics, "loss"))
    assert_plots(page, "loss", "held out", recorded(metrics, "held_out/loss"))
    assert_plots(page, "norm of the gradient", "grad_norm", recorded(metrics, "grad_norm"))
    assert_plots(page, "throughput", "training", recorded(timings, "images_per_second"))
    assert "Step 40 of 50, loss 0.575, held-out loss 1.15" in page.text


def test_goodput_is_the_share_of_the_steps(run):
    """40 steps of 2 s, 20 s of set-up, 60 s of compilation: a half."""
    page = written(run)
    assert "Goodput 50.0%" in page.text
    assert {"steps 50.0%", "set-up 12.5%", "compile 37.5%"} <= set(page.text.split("\n"))


def test_nothing_is_fetched_and_nothing_of_the_user_is_markup(run):
    page = written(run)
    text = (run / "report.html").read_text()
    assert "http" not in text and "url(" not in text and HOSTILE not in text
    assert HOSTILE in page.text
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    assert all(source.startswith("data:image/webp;base64,") for source in sources)


def test_a_hostile_name_of_the_folder_is_text(run):
    folder = run.rename(run.with_name("<b onload='x'>"))
    page = written(folder)
    assert not [attrs for _, attrs in page.tags if "onload" in attrs]
    assert "<b onload='x'>" in page.text


def test_samples_are_thinned_and_none_is_of_a_step_that_was_undone(run):
    (run / "samples" / "00000002.png").write_bytes(b"cut off by a kill")
    page = written(run)
    steps = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert len(steps) == report.MOST_GRIDS - 1 and steps[-1] == "step 40"
    assert "step 42" not in page.text


def test_a_resumed_run_is_shown_from_its_start(run):
    page = written(run)
    before = page.values("loss", "training")
    write_lines(run / "metrics.jsonl", [{"step": 41, "loss": 0.4}])
    page = written(run)
    assert len(page.values("loss", "training")) == len(before) + 1


def test_a_refresh_reads_on_where_the_last_one_ended(run):
    page = Report(run, pytest.fail)
    page.write()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "loss": 0.')
        file.flush()
        page.write()
        file.write('25}\nnothing readable\n{"step": 42, "loss": 0.5}\n')
    page.write()
    found = Page((run / "report.html").read_text()).values("loss", "training")
    assert len(found) == STEPS + 2
    assert found[-2:] == [pytest.approx((41, 0.25), rel=0.02), pytest.approx((42, 0.5), rel=0.02)]


def test_a_page_that_takes_long_is_refreshed_seldom(run, monkeypatch):
    now, times = [1000.0], []
    monkeypatch.setattr(report, "time", type("clock", (), {"monotonic": lambda: now[0]}))

    def slow(*args):
        times.append(now[0])
        now[0] += 1.0
        return "page"

    monkeypatch.setattr(report.pages, "page", slow)
    page = Report(run, pytest.fail)
    for _ in range(300):
        page.refresh()
        now[0] += 1.0
    assert 5 <= len(times) <= 7, "more than a fiftieth of the time"


@pytest.mark.parametrize("damage", ["config.json", "environment.json", "metrics.jsonl"])
def test_whatever_fails_is_a_line(run, damage):
    (run / damage).unlink()
    (run / damage).mkdir()
    said = []
    Report(run, said.append).write()
    (line,) = said
    assert line.startswith("report.html is not written: ") and "\n" not in line
    assert not (run / "report.html").exists()


def test_a_fresh_folder_says_that_nothing_is_recorded(tmp_path):
    assert "nothing recorded yet" in written(tmp_path).text


def test_long_records_are_thinned_and_keep_their_ends(tmp_path):
    write_record(tmp_path, 30_000)
    found = written(tmp_path).values("norm of the gradient", "grad_norm")
    assert report.MOST_POINTS <= len(found) <= 2 * report.MOST_POINTS + 1
    assert (found[0][0], found[-1][0]) == pytest.approx((1, 30_000), abs=10)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-3e-5, 7e-5), (1e6, 1.2e6), (0.02, 0.9)])
@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_a_handful_of_values_within_the_axis(ends, log):
    if log and ends[0] <= 0:
        return
    axis = charts.Axis(*ends, 0.0, 100.0, log)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(ends[0] - 1e-9 <= tick <= ends[1] * (1 + 1e-9) for tick in ticks)
    assert np.all(np.diff([axis(tick) for tick in ticks]) > 0)


def test_text_in_a_chart_is_escaped():
    lines = [charts.Line(HOSTILE, [(1, 2.0), (2, 3.0)]), charts.Line("b", [(1, 1.0), (2, 2.0)])]
    drawn = charts.line_chart(HOSTILE, HOSTILE, HOSTILE, lines)
    drawn += charts.share_bar(HOSTILE, [(HOSTILE, 1.0)])
    assert "<script" not in drawn


def test_a_series_of_one_value_has_an_axis():
    drawn = charts.line_chart("a", "x", "y", [charts.Line("b", [(1, 2.0), (2, 2.0)])])
    assert "nan" not in drawn and "inf" not in drawn


def test_a_long_name_wraps_and_values_stand_beside_their_names(tmp_path):
    folder = tmp_path / ("long_name" * 20)
    folder.mkdir()
    write_record(folder, 3)
    (folder / "environment.json").write_text(json.dumps([{"devices": 8}]))
    Report(folder, pytest.fail).write()
    text = (folder / "report.html").read_text()
    assert "overflow-wrap: anywhere" in text.partition("h1 {")[2].partition("}")[0]
    assert "<td>devices</td><td>8</td>" in text  # on a phone, one at the right would be out of view
    assert '<td>steps</td><td class="number">' in text
