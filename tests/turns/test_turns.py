"""`python -m tools.turns`: two turns at smoke size, and what is refused."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.turns.family import FAMILY, ROOT
from tools.turns import pieces, state
from tools.turns.__main__ import main
from tools.turns.clock import Clock
from tools.turns.pack import read_job
from tools.turns.take import take
from tools.turns.turn import Turn
from unclip_jax.checkpoint import bundle
from unclip_jax.core.errors import UserError


def turns(*words, **options):
    """Runs a command in a process of its own, as on the other machine."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.turns", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def refused(capsys, *words):
    """Runs a command that must fail in one line with exit code 2."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("turns: error: ") and err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def packed(tiny, tmp_path_factory):
    """A turn that was packed, in parts of 64 KiB, and carried to another folder."""
    home, box = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("box")
    (home / "plan.json").write_text(json.dumps({**FAMILY, "data": str(tiny / "tiny")}))
    pack(home)
    carry(home, box)
    return home, box


def pack(home):
    words = ["--plan", home / "plan.json", "--out", home / "turn", "--size", "16"]
    words += ["--wheels", "none", "--part-mib", "0.0625"]
    assert main(["pack", *map(str, words)]) == 0


def carry(home, box):
    """Copies the parts, and nothing else."""
    shutil.rmtree(box / "turn", ignore_errors=True)
    for part in pieces.parts_of(home / "turn"):
        shutil.copytree(part, box / "turn" / part.name)


def read(out):
    return json.loads((out / "state.json").read_text())


def bundle_of(turn, name):
    return json.loads((turn / "state" / name / "bundle.json").read_text())


@pytest.fixture(scope="module")
def first(packed):
    """The folders at home and on the other machine, after a turn whose results are in box/1."""
    home, box = packed
    words = ["--minutes", "10", "--file-mib", "0.03", "--out", box / "1"]
    process = turns("run", box / "turn", *words)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (1, ""), out  # a stage has failed
    return home, box


def test_a_turn_leaves_files_of_bounded_size_with_checksums(first, capsys):
    home, box = first
    brought = read(box / "1")["state"]["steps"]
    assert set(brought) == {"clip", "failing"} and brought["clip"]["images"] == 40
    assert brought["clip"]["metrics"]["step"] == 5 and brought["clip"]["seconds"] > 1
    sizes = [path.stat().st_size for path in (box / "1").glob("clip.*")]
    assert len(sizes) > 1 and max(sizes) <= 0.03 * 2**20
    damaged = home / "damaged"
    shutil.copytree(box / "1", damaged)
    piece = damaged / "clip.2"
    flipped = bytearray(piece.read_bytes())
    flipped[100] ^= 1
    before = sorted((home / "turn" / "state").rglob("*"))
    piece.write_bytes(flipped)
    assert "clip.2 is damaged" in refused(capsys, "take", damaged, "--turn", home / "turn")
    piece.unlink()
    assert "cannot read" in refused(capsys, "take", damaged, "--turn", home / "turn")
    assert sorted((home / "turn" / "state").rglob("*")) == before


def test_a_stage_that_fails_leaves_the_results_of_the_others(first, capsys):
    """Its error and the end of its log are brought back; a second turn needs another folder."""
    home, box = first
    brought, log = read(box / "1"), (box / "1" / "log.txt").read_text()
    assert set(brought["results"]) == {"clip"}
    assert "no split 'missing'" in brought["state"]["steps"]["failing"]["error"]
    assert "== clip" in log and "no split 'missing'" in log
    words = ["run", box / "turn", "--minutes", "10", "--out", box / "1"]
    assert "exists; choose another" in refused(capsys, *words)


def test_two_turns(first, capsys):
    """The second goes on where the first stopped, and is itself stopped by a signal."""
    home, box = first
    taken = [take(box / "1", home / "turn")[1] for _ in range(2)]
    assert taken == [True, False]
    assert bundle_of(home / "turn", "clip")["stages"]["clip"]["dtype"] == "float16"
    pack(home)
    carry(home, box)
    second = turns("run", box / "turn", "--minutes", "10", "--out", box / "2")
    rows = box / "turn" / "work" / "runs" / "prior" / "metrics.jsonl"
    wait_for(lambda: rows.exists() and rows.stat().st_size > 0, second)
    second.terminate()
    out, err = second.communicate(timeout=120)
    assert (second.returncode, err) == (0, ""), out
    brought = read(box / "2")["state"]["steps"]
    prior = brought["prior"]
    assert brought["clip"]["images"] == 80 and prior["images"] % 8 == 0
    assert 0 < prior["images"] < 8_000_000
    assert prior["closing_seconds"] > 0 and prior["error"] == ""
    config = json.loads((box / "turn" / "work" / "runs" / "clip" / "config.json").read_text())
    assert config["init_from"].endswith("state/clip") and config["train"]["steps"] == 5
    assert config["optim"]["learning_rate"] == pytest.approx(0.5e-3)  # half of 1e-3: half is done
    check_taken(home, box, capsys)


def check_taken(home, box, capsys):
    """Takes the second turn and the first again, which changes nothing, and joins the stages."""
    capsys.readouterr()
    assert main(["take", str(box / "2"), "--turn", str(home / "turn")]) == 0
    printed = capsys.readouterr().out
    assert "clip: 80 of 80 images" in printed and "prior: " in printed and "turns left" in printed
    assert main(["take", str(box / "1"), "--turn", str(home / "turn")]) == 0
    assert "taken before" in capsys.readouterr().out
    assert main(["status", str(home / "turn")]) == 0
    assert capsys.readouterr().out in printed
    words = ["bundle", str(home / "turn"), "clip", "prior", "--out", str(home / "whole")]
    (home / "notes.md").write_text("Of two turns.\n")
    assert main([*words, "--notes", str(home / "notes.md")]) == 0
    assert set(bundle.read_manifest(home / "whole").stages) == {"clip", "prior_diffusion"}
    card = (home / "whole" / "README.md").read_text()
    assert "Of two turns." in card and "| prior_diffusion |" in card
    assert (home / "whole" / "curves.png").is_file()  # of what the runs recorded there
    words = ["bundle", str(home / "turn"), "clip", "--add", f"{home}/whole:prior_diffusion"]
    assert main([*words, "--out", str(home / "added")]) == 0
    assert set(bundle.read_manifest(home / "added").stages) == {"clip", "prior_diffusion"}
    capsys.readouterr()
    assert "takes BUNDLE:STAGE" in refused(
        capsys, *words[:3], "--add", "whole", "--out", home / "x"
    )
    check_family(home)


def check_family(home):
    """On the other machine a place "{clip+prior}" is one bundle of both."""
    (home / "logs").mkdir()
    job = read_job(home / "turn")
    clock = Clock(time.monotonic() + 120, 1)
    there = Turn(job, None, home, home, clock, file_limit=1, least=1, say=print)
    (home / "joined").symlink_to(home / "turn")
    found = bundle.read_manifest(there.family("clip+prior"))
    assert set(found.stages) == {"clip", "prior_diffusion"}


def wait_for(condition, process):
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_damaged_part_is_refused(packed, tmp_path, capsys):
    home, _ = packed
    for number, part in enumerate(pieces.parts_of(home / "turn"), 1):
        shutil.copytree(part, tmp_path / "turn" / f"part{number}")
    path = tmp_path / "turn" / "part2" / "bytes"
    whole, words = path.read_bytes(), ("run", tmp_path / "turn", "--minutes", "2", "--out")
    path.write_bytes(whole[:-1])
    assert "part2/bytes is damaged" in refused(capsys, *words, tmp_path / "out")
    shutil.rmtree(tmp_path / "turn" / "part2")
    assert "parts; copy the others too" in refused(capsys, *words, tmp_path / "out")
    assert "no part1" in refused(capsys, "run", tmp_path / "x", *words[2:], tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "x").exists()


def test_a_turn_that_goes_on_from_elsewhere_is_refused(packed, tmp_path):
    home, _ = packed
    shutil.copytree(home / "turn", tmp_path / "turn")
    (tmp_path / "out").mkdir()
    other = dataclasses.asdict(state.State(turns=("a", "b")))
    (tmp_path / "out" / "state.json").write_text(json.dumps({"state": other, "results": {}}))
    with pytest.raises(UserError, match="goes on from another state"):
        take(tmp_path / "out", tmp_path / "turn")


@pytest.mark.parametrize(
    "words",
    [
        ("pack", "--plan", "none.json", "--out", "x"),
        ("status", "none"),
        ("run", "none", "--minutes", "0", "--out", "x"),
        ("run", "none", "--minutes", "1", "--reserve", "60", "--out", "x"),
    ],
)
def test_what_cannot_work_is_one_line(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--hours", "3"])
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
