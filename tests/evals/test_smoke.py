"""Smoke runs do little of everything, and say that they are no measurement."""

import dataclasses
import json

from tests.evals.suites import SETTINGS
from unclip_jax.evals import runner
from unclip_jax.evals.examples import load_examples
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.smoke import WARNING, small_bundle, small_settings, small_size
from unclip_jax.sampling.settings import SampleSettings, resolve

WHOLE = dataclasses.replace(SETTINGS, limit=None, prompts=200, batch=32)


def test_a_smoke_run_is_small():
    small = small_settings(WHOLE)
    assert small.smoke and (small.limit, small.prompts, small.batch) == (8, 8, 4)
    asked = dataclasses.replace(WHOLE, limit=3, prompts=2, batch=1)
    small = small_settings(asked)
    assert (small.limit, small.prompts, small.batch) == (3, 2, 1)


def test_training_images_are_few_too():
    """They have no limit otherwise: 24 images, of which a quarter or so is held out."""
    few = load_examples(small_settings(WHOLE), "train", size=8)
    assert len(few) == 8 < len(load_examples(WHOLE, "train", size=8))


def test_samplers_make_two_steps_and_images_of_the_decoders_size(model, monkeypatch):
    seen = []

    def suite(small, chosen):
        seen.append((small, chosen))
        return {}

    monkeypatch.setitem(runner.SUITES, "seen", suite)
    runner.run_suite("seen", model, small_settings(WHOLE))
    ((small, chosen),) = seen
    plan = resolve(small, SampleSettings(size=chosen.sample_size)).to_json()
    assert (plan["steps"], plan["prior_steps"], plan["size"]) == (2, 2, 16)
    whole = resolve(model, SampleSettings()).to_json()
    assert (whole["steps"], whole["prior_steps"], whole["size"]) == (4, 4, 32)


def test_stages_without_a_sampler_stay_the_same(model):
    """So that a CLIP is still recognized as the model's own."""
    small = small_bundle(model)
    assert small.stages["clip"] is model.stages["clip"]
    assert small.stages["decoder"].params is model.stages["decoder"].params
    assert small_size(model, SETTINGS).sample_size == 16
    assert small_size(model, dataclasses.replace(SETTINGS, sample_size=32)).sample_size == 32


def test_what_is_swept_is_cut_to_two():
    assert small_settings(SETTINGS).swept((1, 2, 3)) == (1, 2)
    assert SETTINGS.swept((1, 2, 3)) == (1, 2, 3)


def test_the_report_says_so(tmp_path):
    found = {"cosine": Metric(0.5, 0.4, 0.6, 10)}
    report, text = runner.write_report(tmp_path, "priors", found, {"model": "m", "smoke": True})
    assert "numbers mean nothing" in WARNING
    assert report["note"] == WARNING and f"**{WARNING}**" in text
    assert json.loads((tmp_path / "priors.json").read_text())["settings"]["smoke"] is True
    report, text = runner.write_report(tmp_path, "priors", found, {"model": "m", "smoke": False})
    assert "note" not in report and "smoke run" not in text
