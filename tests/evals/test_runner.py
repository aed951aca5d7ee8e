"""The report of a suite."""

import json

from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.runner import write_report


def test_report(tmp_path):
    results = {
        "cosine": Metric(0.5, 0.4, 0.6, 10, 0.1),
        "upsampler_256/psnr": Metric(30.0, None, None, 4, None, "8-bit", "shapes test"),
    }
    result, markdown = write_report(tmp_path, "priors", results, {"model": "m"})
    assert result == json.loads((tmp_path / "priors.json").read_text(encoding="utf-8"))
    assert result["suite"] == "priors"
    assert result["metrics"]["cosine"] == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 10,
        "baseline": 0.1,
        "floor": 0.1,
        "recipe": "",
        "reference": "",
    }
    assert "- upsampler_256/psnr: 8-bit; against shapes test" in markdown
    assert markdown == (tmp_path / "priors.md").read_text(encoding="utf-8")
    assert "| cosine | 0.5000 | 0.4000 to 0.6000 | 0.1000 | 10 |" in markdown
    assert (tmp_path / "priors.png").read_bytes().startswith(b"\x89PNG")


def test_many_metrics_of_one_recipe_are_named_by_the_first_and_the_last(tmp_path):
    results = {f"m_{i}": Metric(0.0, None, None, 1, recipe="how") for i in range(13)}
    _, markdown = write_report(tmp_path, "priors", results, {})
    assert "- m_0 to m_12 (13 metrics): how" in markdown
    del results["m_0"]
    _, markdown = write_report(tmp_path, "priors", results, {})
    assert f"- {', '.join(results)}: how" in markdown


def test_a_report_lists_the_settings_that_its_suite_reads(tmp_path):
    """`fidelity` has no scales and no raters; `guidance` has scales."""
    results = {"x": Metric(1.0, None, None, 2)}
    recorded = {"model": "m", "scales": [1.0], "answers": [], "features": "clip", "seed": 0}
    report, markdown = write_report(tmp_path, "fidelity", results, recorded)
    assert report["settings"] == {"model": "m", "features": "clip", "seed": 0}
    assert "- features: clip" in markdown and "- scales" not in markdown
    report, _ = write_report(tmp_path, "guidance", results, recorded)
    assert report["settings"]["scales"] == [1.0] and "answers" not in report["settings"]
