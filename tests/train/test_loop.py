"""The loop by a clock of the test's own: what it logs, evaluates, saves and times, and when."""

from types import SimpleNamespace

import numpy as np
import pytest

from unclip_jax.checkpoint.store import CheckpointStore
from unclip_jax.train import loop
from unclip_jax.train.config import TrainConfig
from unclip_jax.train.metrics import NullWriter
from unclip_jax.train.state import TrainState

STEPS, BATCH, SECONDS = 7, 8, 2.0
CFG = TrainConfig(steps=STEPS, batch_size=BATCH, log_every=3, save_every=5)


class World:
    """Parts of a run that note calls; a step takes SECONDS, an evaluation 100, a save 50."""

    def __init__(self):
        """Starts at time 0."""
        self.now, self.taken = 0.0, 0
        self.metrics, self.timings, self.saved = [], [], []
        self.phases, self.refreshed = [], []

    def step(self, state, batch):
        """Counts; the loss of step n is n."""
        self.now += SECONDS
        self.taken += 1
        number = state.step + 1
        sums = np.array([[4.0 * number, 4.0]])
        logged = {"sums": sums, "row": 0, "rate": 0.1, "skipped": 0}
        return state.replace(step=number), logged

    def evaluate(self, state):
        """The held-out loss of step n is 10 n."""
        self.now += 100
        return {"held_out/loss": 10.0 * state.step}

    def parts(self):
        """The parts of the loop."""
        return loop.LoopParts(
            step=self.step,
            data=Data(self),
            store=Store(self),
            writer=Notes(self),
            metric_names=("loss",),
            evaluate=self.evaluate,
            peak_seconds=lambda state, batch: {"mfu": 0.5},
            after_save=lambda: self.refreshed.append(self.taken),
        )


class Notes(NullWriter):
    """Notes what is logged."""

    def __init__(self, world):
        self.metrics = lambda step, values: world.metrics.append((step, values))
        self.timings = lambda step, values: world.timings.append((step, values))
        self.phase = lambda step, name, seconds: world.phases.append((step, name, seconds))


class Store(CheckpointStore):
    """Notes what is saved, and which metrics had been written by then."""

    def __init__(self, world):
        self.world = world

    def save(self, step, state, data, held_out_loss=None):
        self.world.now += 50
        written = [s for s, _ in self.world.metrics]
        self.world.saved.append((step, state.step, data, held_out_loss, written))

    def wait(self):
        """Nothing is under way."""


class Data:
    """Batches without end, and how many were taken."""

    def __init__(self, world):
        self.world = world

    def __next__(self):
        return "batch"

    def get_state(self):
        return {"taken": self.world.taken}


@pytest.fixture(scope="module")
def world():
    """A whole run."""
    made = World()
    clock = SimpleNamespace(monotonic=lambda: made.now, time=lambda: 0.0)
    with pytest.MonkeyPatch.context() as patch, loop.Stop() as stop:
        patch.setattr(loop, "time", clock)
        start = TrainState(0, {}, {}, (), skipped=0, consecutive_skips=0, sums=None)
        state, done = loop.Loop(CFG, 3, made.parts()).run(start, stop)
    assert done and state.step == made.taken == STEPS
    return made


def test_metrics_are_of_their_step_and_the_last_one_is_evaluated(world):
    losses = [(step, values["loss"]) for step, values in world.metrics if "loss" in values]
    assert losses == [(3, 3.0), (6, 6.0), (7, 7.0)]
    held_out = [(s, v["held_out/loss"]) for s, v in world.metrics if "held_out/loss" in v]
    assert held_out == [(3, 30.0), (6, 60.0), (7, 70.0)]


def test_a_checkpoint_has_its_held_out_loss_its_data_and_its_record(world):
    """The best ones are kept by that loss; what is on disk of the record comes first."""
    assert world.saved == [
        (5, 5, {"taken": 5}, None, [3, 3]),
        (7, 7, {"taken": 7}, 70.0, [3, 3, 6, 6, 7, 7]),
    ]


def test_the_rate_is_that_of_steps_alone(world):
    """Half a step a second, without the first one, which compiles, evaluations and saves."""
    assert [step for step, _ in world.timings] == [3, 6, 7]
    for step, values in world.timings:
        assert values["images_per_second"] == pytest.approx(BATCH / SECONDS)
        assert values["seconds_left"] == pytest.approx((STEPS - step) * SECONDS)
        assert values["mfu"] == pytest.approx(0.5 / SECONDS)
    seconds = [values["seconds"] for _, values in world.timings]
    assert seconds == pytest.approx([2 * SECONDS, 3 * SECONDS, SECONDS])  # all but the first


def test_what_is_not_a_step_is_timed_by_its_name(world):
    """The first step is its compilation; the last saving is the wait for what is under way."""
    assert world.phases == [
        (1, "compile", SECONDS),
        (3, "evaluation", 100.0),
        (5, "saving", 50.0),
        (6, "evaluation", 100.0),
        (7, "evaluation", 100.0),
        (7, "saving", 50.0),
        (7, "saving", 0.0),
    ]
    assert sum(seconds for *_, seconds in world.phases) + 6 * SECONDS == world.now


def test_the_report_is_refreshed_after_every_checkpoint(world):
    assert world.refreshed == [5, 7]
