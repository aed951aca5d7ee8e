"""The share of the peak against hand counts, and the trace of a few steps."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.training import spec_of
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.chips import CHIPS
from unclip_jax.plan.estimate import make_plan
from unclip_jax.train import experiment, throughput
from unclip_jax.train.throughput import TracedSteps, peak_seconds, with_remat

ROOT = Path(__file__).resolve().parents[2]
SMOKE = "configs/emoji/prior_diffusion.py:smoke"
N, D = 6, 5


@pytest.fixture
def on_a_known_chip(monkeypatch):
    """The test's devices count as eight v4 chips."""
    monkeypatch.setattr(throughput, "chip_of", lambda kind: CHIPS["v4"])


def two_matrices(spec):
    """A step that is the gradient of sum(sin(sin(x a) b)); its spec says whether it is remat."""

    def loss(params, x):
        hidden = jnp.sin(jnp.sin(x @ params["a"]) @ params["b"])
        return hidden.sum()

    rematerialised = spec.model.unet.remat != "none"
    loss = jax.checkpoint(loss) if rematerialised else loss
    return lambda params, frozen, x: jax.grad(loss)(params, x)


def remat_spec():
    return with_remat(spec_of("decoder"), "block")


def test_remat_is_replaced_wherever_it_is():
    spec = remat_spec()
    assert spec.model.unet.remat == "block"
    assert with_remat(spec, "none") == spec_of("decoder")
    prior = with_remat(spec_of("prior_diffusion"), "dots")
    assert prior.model.transformer.remat == "dots"


def test_a_steps_time_at_the_peak(on_a_known_chip):
    """Two products forward; two for the matrices' and one for the hidden units' gradient."""
    shape = lambda *sides: jax.ShapeDtypeStruct(sides, jnp.float32)  # noqa: E731
    arguments = {"a": shape(D, D), "b": shape(D, D)}, {}, shape(N, D)
    got = peak_seconds(two_matrices, remat_spec(), arguments, jax.devices())
    product, peak = 2 * N * D * D, 8 * 275e12
    assert got["mfu"] == pytest.approx(5 * product / peak)
    assert got["hfu"] == pytest.approx(7 * product / peak)
    plain = peak_seconds(two_matrices, spec_of("decoder"), arguments, jax.devices())
    assert plain["hfu"] == plain["mfu"] == got["mfu"]


def test_a_device_that_is_not_listed_has_no_peak():
    assert peak_seconds(two_matrices, remat_spec(), ({}, {}, {}), jax.devices()) == {}


def test_a_run_logs_its_share_and_traces_two_steps(tmp_path, on_a_known_chip):
    path, _, variant = SMOKE.partition(":")
    config = read_config(f"{ROOT / path}:{variant}", ["--config.train.steps=8"])
    assert experiment.train(config, tmp_path, profile=2)
    rows = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert len(rows) >= 3
    image = make_plan(config | {"clip": ""} | resolved(tmp_path)).flops_per_image
    for row in rows:
        expected = image * row["images_per_second"] / (8 * 275e12)
        assert row["mfu"] == row["hfu"] == pytest.approx(expected, rel=0.25)
    traces = list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000


def resolved(workdir):
    """The sections with the sizes that the run took from its CLIP."""
    config = json.loads((workdir / "config.json").read_text())
    return {"model": config["model"], "embedding_norm": config["embedding_norm"]}


def test_a_run_that_ends_early_still_writes_its_trace(tmp_path):
    step = TracedSteps(lambda state, batch: (state + batch, {}), tmp_path / "profile", 10)
    state = jnp.zeros(())
    for _ in range(4):
        state, _ = step(state, jnp.ones(()))
    step.close()
    step.close()
    assert float(state) == 4.0
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_run_too_short_for_a_trace_writes_none(tmp_path):
    step = TracedSteps(lambda state, batch: (state, {}), tmp_path / "profile", 1)
    for _ in range(throughput.WARM_UP):
        step(jnp.zeros(()), None)
    step.close()
    assert not (tmp_path / "profile").exists()
