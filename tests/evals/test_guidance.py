"""The sweep of guidance: what is swept, what is drawn, what an interval leaves out."""

import dataclasses

import numpy as np
import pytest

from tests.evals.suites import SETTINGS, check_metrics
from unclip_jax.evals import guidance, metrics
from unclip_jax.evals.metrics import GROUPS
from unclip_jax.evals.runner import run_suite


def test_all_images_of_a_caption_are_left_out_together():
    """For any number of captions, 50 too; captions of one concept are one group as well."""
    requests = guidance.draws_first([f"prompt {i}" for i in range(50)])
    assert [(r.prompt_index, r.draw) for r in requests[49:52]] == [(49, 0), (0, 1), (1, 1)]
    concepts = np.array([f"concept {i // 2}" for i in range(50)])
    member = metrics.jackknife_groups(guidance.of_draws(concepts))
    groups = {}
    for row, request in enumerate(requests):
        groups.setdefault(request.prompt_index // 2, set()).add(int(member[row]))
    assert len(groups) == 25 and all(len(found) == 1 for found in groups.values())
    assert set(member) == set(range(GROUPS))


def test_diversity_is_within_a_caption(monkeypatch):
    """One caption's two images are the same, the other's at a right angle."""
    monkeypatch.setattr(guidance, "DRAWS", 2)
    rows = np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0], [4.0, 0.0]])
    metric = guidance.diversity_metric(rows, np.array(["a", "b"]), "")
    assert metric.value == pytest.approx(0.5) and metric.n == 2


def test_the_suite_sweeps_the_model_and_the_baseline(model, tmp_path, monkeypatch):
    """The baseline reads captions only; its scales are its own decoder's."""
    plans, sampled_images = {}, guidance.sampled_images

    def seen(bundle, requests, plan, settings, name):
        plans[name] = plan
        return sampled_images(bundle, requests, plan, settings, name)

    monkeypatch.setattr(guidance, "sampled_images", seen)
    settings = dataclasses.replace(
        SETTINGS, baseline=model, scales=(1.0, 2.5), prompts=4, sample_size=16
    )
    results = run_suite("guidance", model, dataclasses.replace(settings, image_folder=tmp_path))
    check_metrics(results)
    statistics = ("frechet_clip", "precision", "recall", "diversity", "clip_score")
    names = [
        f"{name}/{s}_{x}" for s in statistics for name in ("unclip", "baseline") for x in (1, 2.5)
    ]
    assert list(results) == names
    assert results["unclip/frechet_clip_1"].n == 16 and results["unclip/diversity_1"].n == 4
    assert [plan.prior for plan in plans.values()] == ["diffusion"] * 2 + ["none"] * 2
    assert [plan.decoder_sampling.guidance for plan in plans.values()] == [1.0, 2.5] * 2
    assert (tmp_path / "guidance_images.png").stat().st_size > 0
