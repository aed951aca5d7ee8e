"""The record: what is cut back on a restart, and what cannot be written as JSON."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from unclip_jax.core.errors import UserError
from unclip_jax.train.environment import write_environment
from unclip_jax.train.metrics import RunWriter, named_metrics, truncate_jsonl


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_after_the_step_and_a_torn_last_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "loss": 1.5}\n{"step": 10, "loss": 1.25}\n{"step": 15, "lo')
    truncate_jsonl(path, 10)
    assert path.read_text() == '{"step": 5, "loss": 1.5}\n{"step": 10, "loss": 1.25}\n'
    truncate_jsonl(path, 5)
    assert [line["step"] for line in lines(path)] == [5]
    truncate_jsonl(path, 0)
    assert path.read_text() == ""


def test_a_damaged_line_takes_no_other_with_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [json.dumps({"step": step, "loss": 1.5}).encode() + b"\n" for step in range(1, 51)]
    damaged = list(rows)
    damaged[14] = bytes([rows[14][0] ^ 0x80]) + rows[14][1:]  # one bit, and no UTF-8 either
    damaged[20] = b"[]\n"
    path.write_bytes(b"".join(damaged))
    said = []
    try:
        truncate_jsonl(path, 50, said.append)
    except TypeError:  # before it could say so
        truncate_jsonl(path, 50)
    assert path.read_bytes() == b"".join(row for i, row in enumerate(rows) if i not in (14, 20))
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == b"".join(damaged)
    assert len(said) == 1 and said[0].startswith(f"2 lines of {path} are damaged and left out; ")


def test_a_second_damage_keeps_what_was_kept_at_the_first(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for text in ("first\n", "second\n", "third\n"):
        path.write_text(text)
        truncate_jsonl(path, 50)
    for end, text in (("", "first\n"), ("-2", "second\n"), ("-3", "third\n")):
        assert (tmp_path / f"metrics.jsonl.damaged{end}").read_text() == text


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    full = lambda path, *args, **options: open("/dev/full", *args, **options)  # noqa: E731
    monkeypatch.setattr(Path, "open", full)
    writer = RunWriter(tmp_path, 0, tensorboard=False)
    with pytest.raises(UserError, match="cannot write /dev/full: No space left on device"):
        writer.metrics(1, {"loss": 0.5})
    writer.close()


def test_a_damaged_list_of_starts_is_kept_and_a_new_one_begun(tmp_path):
    path = tmp_path / "environment.json"
    path.write_text('[{"date": "2026"')
    said = []
    try:
        write_environment(path, said.append)
    except TypeError:  # before it could say so
        write_environment(path)
    assert [sorted(entry)[0] for entry in json.loads(path.read_text())] == ["commit"]
    assert (tmp_path / "environment.json.damaged").read_text() == '[{"date": "2026"'
    assert len(said) == 1 and said[0].startswith(str(path))


def test_a_writer_continues_the_record(tmp_path):
    for first, step in ((0, 5), (5, 10)):
        writer = RunWriter(tmp_path, first, tensorboard=False)
        writer.metrics(step, {"loss": 0.5, "bad": math.nan})
        writer.timings(step, {"images_per_second": 3.0})
        writer.close()
    found = lines(tmp_path / "metrics.jsonl")
    assert found == [{"step": s, "loss": 0.5, "bad": None} for s in (5, 10)]
    assert [line["step"] for line in lines(tmp_path / "timings.jsonl")] == [5, 10]


def test_tensorboard_gets_the_same_values(tmp_path):
    writer = RunWriter(tmp_path, 0)
    writer.metrics(1, {"loss": 0.5})
    writer.image(1, "samples", np.zeros((4, 4, 3), np.uint8))
    writer.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_metrics_without_weight_are_left_out():
    sums = np.array([[6.0, 4.0], [0.0, 0.0]])
    assert named_metrics(sums, ("loss", "loss_q1")) == {"loss": 1.5}
