"""The record: what is cut back on a restart, and what cannot be written as JSON."""

import json
import math

import numpy as np

from unclip_jax.train.loop import named_metrics
from unclip_jax.train.metrics import RunWriter, truncate_jsonl


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
