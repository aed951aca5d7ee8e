"""The command `benchmarks/gpu.py` without a GPU: what it repeats, how it fails, its arithmetic."""

import json
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import gpu  # noqa: E402
import turns  # noqa: E402
from gpu_cells import COMPILED, CUDNN, EAGER, OURS, Cell, Goal, all_cells  # noqa: E402
from gpu_report import BEGIN, END, best_of_ours, mfu, put_into, rate, speed, table  # noqa: E402

from tests.benchmarks.fakes import failing, quick  # noqa: E402

H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
PEAK = 989.4e12  # dense bfloat16 FLOP/s of both, from the data sheet


def side(rows, wall, device=H100, **more):
    return {"rows": rows, "wall": wall, "device": device, "date": "2026-11-27", **more}


SIDES = {
    OURS: side(10, 0.5, flops=10 * PEAK / 100),
    CUDNN: side(16, 0.5, flops=16 * PEAK / 100, gpu_gib=12.34),
    COMPILED: side(8, 0.5),
    EAGER: side(8, 1.0, H200),
    "dalle2-pytorch": side(4, 0.5, flops=4 * PEAK / 50),
    "broken": {"failed": "missing package: torch"},
}


NO_GOAL = Goal()


def cell(name="train it", goal=NO_GOAL, alone=True, minutes=1.0, sides=SIDES):
    ways = {key: ((key, 8), (key, 4)) for key in sides}
    return Cell(name, f"{name}, what", "bfloat16", ways, alone, minutes, goal)


def test_rates_ratios_and_shares():
    """32 and 20 rows/s of ours, of a hundredth of the peak's FLOPs each; 16 rows/s of theirs."""
    assert [rate(SIDES[name]) for name in (OURS, CUDNN, COMPILED, "broken")] == [20, 32, 16, None]
    assert best_of_ours(SIDES) == CUDNN
    assert speed(SIDES, COMPILED) == 2.0
    assert speed(SIDES, EAGER) is None, "on another card"
    assert speed(SIDES, "broken") is None and speed({}, COMPILED) is None
    assert mfu(SIDES, OURS) == pytest.approx(0.2)
    assert mfu(SIDES, CUDNN) == pytest.approx(0.32)
    assert mfu(SIDES, COMPILED) == pytest.approx(0.16), "the same network: our count"
    assert mfu(SIDES, "dalle2-pytorch") == pytest.approx(8 / 50), "another one: its own"
    assert mfu({OURS: side(10, 0.5, "cpu", flops=1.0)}, OURS) is None


def test_the_table_says_all(tmp_path):
    goals = [Goal(speed=1.3), Goal(mfu=0.32 - 1e-9), Goal(error=0.02)]
    cells = [cell("train a", goals[0]), cell("train b", goals[1]), cell("c", goals[2])]
    cells += [cell("not yet", goals[0])]
    off = {name: one | {"error": 0.03 if name == OURS else 0.01} for name, one in SIDES.items()}
    about = {"environment": {"jax": "0.11.2"}}
    records = {one.name: about | {"sides": SIDES} for one in cells[:2]}
    records["c"] = about | {"sides": off}
    text = table(cells, records)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:-2]]
    assert {len(row) for row in rows} == {10}
    found = {(row[0].split(",")[0], row[1]): row for row in rows}
    assert found["train a", COMPILED][2:] == [
        *(f"{H100}, 2026-11-27", "8", "0.5", "16", "2.00", "16.0%", "speed ≥ 1.3: yes", "–")
    ]
    assert found["train a", EAGER][6] == "–"
    assert found["train b", OURS][7:9] == ["20.0%", "MFU ≥ 32%: no"]
    assert found["train b", CUDNN][7:] == ["32.0%", "MFU ≥ 32%: yes", "12.3"]
    assert found["c", OURS][8] == "error ≤ 0.02: no"
    assert found["c", CUDNN][8] == "error ≤ 0.02: yes"
    assert found["c", OURS][7] == "–"
    assert found["train a", "broken"][4] == "missing package: torch"
    assert rows[-1][4] == "not run" and rows[-1][8] == "speed ≥ 1.3"
    assert text.endswith("\njax 0.11.2")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into(page, text)
    assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"


def test_the_page_has_every_cell():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    shown = page.partition(BEGIN)[2].partition(END)[0]
    cells = all_cells()
    assert [one.name for one in cells if f"| {one.what}, {one.dtype} |" not in shown] == []
    assert len({one.name for one in cells}) == len(cells)
    goals = {one.name: (one.goal.speed, one.goal.mfu) for one in cells}
    assert goals["train decoder"][1] == 0.50 and goals["train prior"][1] == 0.55
    assert {goal[0] for name, goal in goals.items() if "sample" in name} == {1.3, None}
    assert [one.name for one in all_cells(tiny=True)] == [
        one.name.replace(" 8", " 1") for one in cells if not one.name.endswith(" 1")
    ]


@pytest.fixture
def measured(monkeypatch):
    """Stands in for processes: what was asked for, and answers that a test may change."""
    asked, answers = [], {}

    def measure(makers, repeats, *, together=False, deadline=None):
        asked.append({name: maker[1] for name, maker in makers.items()})
        default = {name: side(maker[1], 0.5) for name, maker in makers.items()}
        return {
            name: dict(answers.get((name, maker[1]), default[name]))
            for name, maker in makers.items()
        }

    monkeypatch.setattr(gpu, "measure", measure)
    return asked, answers


def test_a_rerun_goes_on_where_the_last_one_ended(measured, tmp_path):
    asked, answers = measured
    cells = [cell("train a", sides=(OURS, EAGER)), cell("b", alone=False, sides=(OURS, EAGER))]
    late, broken = {"failed": turns.LATE}, {"failed": "missing package: torch"}
    answers |= {(EAGER, 8): late, (OURS, 8): {"failed": "out of memory: 90 GiB"}}
    records = gpu.run(cells, tmp_path, gpu.Settings(2, time.monotonic() + 200))
    assert asked == [{OURS: 8}, {OURS: 4}, {EAGER: 8}, {OURS: 8, EAGER: 8}]
    assert records["train a"]["sides"][OURS]["rows"] == 4
    assert json.loads((tmp_path / gpu.RESULTS).read_text()) == records
    asked.clear()
    answers[EAGER, 8] = broken
    gpu.run(cells, tmp_path, gpu.Settings(2))
    assert asked == [{EAGER: 8}, {OURS: 8, EAGER: 8}], "those that take turns are taken together"
    asked.clear()
    gpu.run(cells, tmp_path, gpu.Settings(2))
    assert asked == []
    del answers[EAGER, 8]
    found = gpu.run(cells, tmp_path, gpu.Settings(2, retry=True))
    assert asked == [{EAGER: 8}, {OURS: 8, EAGER: 8}]
    assert found["train a"]["sides"][EAGER]["rows"] == 8


def test_what_would_end_too_late_is_not_begun(measured, tmp_path):
    """Of 120 s: both together take 180 s, then one alone 60 s of 120, at last 150 s of 300."""
    _, answers = measured
    both = (OURS, EAGER)
    cells = [cell("a", minutes=3.0, sides=both, alone=False), cell("b", minutes=2.0, sides=both)]
    cells += [cell("c", minutes=5.0, sides=both)]
    records = gpu.run(cells, tmp_path, gpu.Settings(2, time.monotonic() + 120))
    assert {name: list(record["sides"]) for name, record in records.items()} == {"b": [*both]}


def test_a_side_that_takes_too_long_is_not_begun_again(measured, tmp_path):
    """Where time was left; one that the deadline ended is."""
    asked, answers = measured
    answers[EAGER, 8] = {"failed": turns.LATE}
    records = gpu.run([cell("a", sides=(EAGER,))], tmp_path, gpu.Settings(2, patience=3.0))
    assert records["a"]["sides"][EAGER]["failed"] == "not ready after 3 minutes"
    settings = gpu.Settings(2, time.monotonic() + 100)
    records = gpu.run([cell("b", sides=(EAGER,))], tmp_path, settings)
    assert records["b"]["sides"][EAGER]["failed"] == turns.LATE
    asked.clear()
    gpu.run([cell("a", sides=(EAGER,)), cell("b", sides=(EAGER,))], tmp_path, gpu.Settings(2))
    assert asked == [{EAGER: 8}]


def test_sides_that_fail_stop_nothing():
    makers = {
        "a": (quick, (3,)),
        "b": (failing, ("package",)),
        "c": (failing, ("memory",)),
        "d": (failing, ("exit",)),
    }
    found = turns.measure(makers, 2, together=True, deadline=time.monotonic() + 120)
    assert found["a"]["rows"] == 3 and found["a"]["device"] == "cpu"
    assert 0.002 <= found["a"]["wall"] < 1.0 and len(found["a"]["all"]) == 2
    assert [found[name] for name in "bcd"] == [
        {"failed": "missing package: no_such_package"},
        {"failed": "out of memory"},
        {"failed": "its process ended with code 7"},
    ]
    late = turns.measure({"a": (time.sleep, (30.0,))}, 2, deadline=time.monotonic() + 0.2)
    assert late == {"a": {"failed": turns.LATE}}
    with pytest.raises(RuntimeError, match="b: missing package"):
        turns.compare({"b": makers["b"]}, 1)


def test_the_command_writes_what_it_prints(tmp_path):
    words = ["--out", str(tmp_path / "out"), "--table"]
    result = CliRunner().invoke(gpu.main, words, catch_exceptions=False)
    assert result.exit_code == 0 and result.output.count("not run") == len(all_cells())
    assert (tmp_path / "out" / gpu.TABLE).read_text() == result.output
    if not any(Path(path).exists() for path in gpu.NVIDIA):
        result = CliRunner().invoke(gpu.main, words[:2])
        assert result.exit_code == 2 and "no NVIDIA GPU here" in result.output
