"""Plans: what is refused, what the emoji family's says; what is left to do."""

from pathlib import Path

import numpy as np
import pytest

from tests.turns.family import CLIP, FAMILY, ROOT
from tools.turns import plan, state
from unclip_jax.core.errors import UserError


def test_the_emoji_plan_trains_what_the_script_trains():
    """The stages' configs and the steps between them are those of launch/emoji.sh."""
    found = plan.read_plan(ROOT / "launch" / "emoji_turns.json")
    script = (ROOT / "launch" / "emoji.sh").read_text(encoding="utf-8")
    wanted = {step.name: step.images for step in found.steps}
    assert wanted["clip"] == 1_280_000 and wanted["prior_diffusion"] == 768_000
    assert wanted["decoder"] == 1_280_000
    training = {"clip", "prior_diffusion", "decoder", "prior_ar", "eval_clip"}
    tuned = {"prior_tuned", "decoder_tuned"}
    assert set(wanted) == training | tuned | {"pca", "prior_samples"}
    needs = {step.name: step.needs for step in found.steps}
    assert needs["prior_ar"] == ("clip", "pca")
    assert needs["prior_samples"] == ("clip", "prior_tuned")
    assert needs["decoder_tuned"] == ("clip", "decoder", "prior_samples")
    for step in found.steps:
        path = step.config.partition(":")[0]
        assert not path or ((ROOT / path).is_file() and Path(path).name[:-3] in script)
    pca = next(step for step in found.steps if step.name == "pca")
    assert "--concepts no_flags" in script and "no_flags" in pca.command
    assert plan.parse_plan(plan.to_json(found), "again") == found


def test_a_place_may_join_stages_that_the_step_needs():
    """One bundle of both, written "{clip+prior}"; both have to be finished before."""
    clip, prior, _ = FAMILY["stages"]
    step = {"name": "drawn", "command": ["embed", "--bundle", "{clip+prior}"], "result": "x.bin"}
    found = plan.parse_plan(
        {**FAMILY, "stages": [clip, prior, {**step, "needs": ["clip", "prior"]}]}, "PLAN"
    ).steps[2]
    assert found.families == ("clip+prior",)
    assert plan.fill(found.command, {"clip+prior": "/b"}) == ["embed", "--bundle", "/b"]
    with pytest.raises(UserError, match="{clip\\+prior} is not among its needs"):
        plan.parse_plan({**FAMILY, "stages": [clip, prior, {**step, "needs": ["clip"]}]}, "PLAN")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"needs": ["clap"]}, "not an earlier stage"),
        ({"needs": []}, "{clip} is not among its needs"),
        ({"images": 0}, "images=0"),
        ({"images": "many"}, "images must be a int"),
        ({"name": "../x"}, "name '../x'"),
        ({"name": "clip"}, "the name is taken"),
        ({"config": ""}, "either config and images"),
        ({"command": ["embed"]}, "either config and images"),
        ({"imagse": 3}, "unknown key 'imagse'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(change, reason):
    clip, prior, _ = FAMILY["stages"]
    with pytest.raises(UserError, match="^PLAN: ") as refused:
        plan.parse_plan({**FAMILY, "stages": [clip, {**prior, **change}]}, "PLAN")
    assert reason in str(refused.value)


def test_a_command_step_is_one_that_reads_and_writes_a_file():
    step = {"name": "pca", "command": ["embed", "--out", "{out}"], "result": "pca.safetensors"}
    found = plan.parse_plan({"name": "a", "stages": [step]}, "PLAN").steps[0]
    assert plan.fill(found.command, {"out": "runs/pca"}) == ["embed", "--out", "runs/pca"]
    for wrong in ({"command": ["train"]}, {"result": "../x"}, {"result": ""}):
        with pytest.raises(UserError, match="command must be"):
            plan.parse_plan({"name": "a", "stages": [{**step, **wrong}]}, "PLAN")


def test_the_learning_rate_goes_on_along_one_cosine():
    """At 0, 1/3, 1/2, 2/3 and all of the images: 1, 3/4, 1/2, 1/4 and 0 of the peak."""
    found = [state.rate_after(8.0, done, 600) for done in (0, 200, 300, 400, 600)]
    np.testing.assert_allclose(found, [8.0, 6.0, 4.0, 2.0, 0.0], atol=1e-12)


def test_turns_left_are_images_over_images_a_turn():
    """900,000 images at 1,000 a second are 900 s; a turn of 480 s trains 450 s of them: 2 turns."""
    step = plan.Step("clip", config=CLIP, images=1_000_000)
    seen = state.Progress(images=100_000, images_per_second=1000.0, overhead_seconds=30.0)
    assert state.turns_left(step, seen, 480.0) == pytest.approx(2.0)
    assert state.turns_left(step, state.Progress(images=10), 480.0) is None
    assert state.turns_left(step, state.Progress(images=1_000_000), 0.0) == 0.0
