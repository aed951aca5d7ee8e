"""`unclip export`: what a run has come to, in a bundle that loads."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.sampling.test_tokens import make as make_drawn
from tests.toy import random_params, toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.checkpoint.store import CheckpointStore
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.stages import spec_to_dict
from unclip_jax.workflows.export import ExportOptions, join, last_of_each_stage
from unclip_jax.workflows.parts import Part, read_part


def make_run(folder, spec, *, steps=(10, 20), of=20, clip="", tokenizer=None, table=None):
    """Writes a run as training does: checkpoints whose EMA parameters differ from the others."""
    folder.mkdir(parents=True)
    config = spec_to_dict(spec) | {
        "seed": 3,
        "clip": clip,
        "data": {"name": "shapes"},
        "optim": {"learning_rate": 1e-3},
        "train": {"steps": of},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps([{"device_kind": "cpu", "date": "now"}]))
    store = CheckpointStore(folder / "checkpoints")
    for step in steps:
        state = {
            "step": np.int32(step),
            "params": random_params(spec, 100),
            "ema_params": random_params(spec, step),
            "opt_state": [{"mu": random_params(spec, 101)}, ()],
        }
        store.save(step, jax.tree.map(jax.numpy.asarray, state), {"position": step})
    store.close()
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer.json")
    if table is not None:
        np.save(folder / "variance_table.npy", table)
    return folder


@pytest.fixture(scope="module")
def toy():
    return toy_bundle()


@pytest.fixture(scope="module")
def clip_run(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "clip"
    return make_run(folder, toy.stage("clip").spec, tokenizer=toy.tokenizer)


def test_runs_become_a_bundle(toy, clip_run, tmp_path, unclip):
    clip_out = tmp_path / "clip"
    assert unclip("export", clip_run, "--out", clip_out, "--dtype", "float32")[0] == 0
    clip = bundle.load(clip_out)
    assert list(clip.stages) == ["clip"]
    assert clip.tokenizer.vocab_size == toy.tokenizer.vocab_size

    table = np.linspace(0.1, 0.9, 1000)
    specs = {name: stage.spec for name, stage in toy.stages.items()}
    runs = [
        make_run(tmp_path / "u", specs["upsampler_256"]),
        make_run(tmp_path / "p", specs["prior_diffusion"], clip=str(clip_out), table=table),
        clip_run,
    ]
    out = tmp_path / "all"
    code, printed, err = unclip(
        *("export", *runs, "--out", out, "--json", "--set", "prior_diffusion.guidance=1.25"),
        *("--set", "upsampler_256.initial_noise_scale=0.997"),
        *("--set", "upsampler_256.step_list=[997, 800, 0]"),
    )
    assert (code, err) == (0, "")
    assert json.loads(printed)["stages"] == ["clip", "prior_diffusion", "upsampler_256"]
    made = bundle.load(out)
    for name, stage in made.stages.items():
        assert stage.dtype == "float16"
        back = flatten_paths(stage.params)
        for key, value in flatten_paths(random_params(specs[name], 20)).items():
            np.testing.assert_array_equal(back[key], value.astype(np.float16).astype(np.float32))
    assert made.cascade == toy.cascade or made.cascade[0].nets == toy.cascade[0].nets
    assert made.stage("prior_diffusion").spec.sampling.guidance == 1.25
    upsampling = made.stage("upsampler_256").spec.sampling
    assert (upsampling.initial_noise_scale, upsampling.step_list) == (0.997, (997, 800, 0))
    np.testing.assert_array_equal(made.arrays["prior_diffusion.variance_table"], table)
    held = made.provenance["stages"]["upsampler_256"]
    assert (held["steps"], held["of_steps"], held["seed"]) == (20, 20, 3)
    assert held["environment"] == [{"device_kind": "cpu", "date": "now"}]
    assert made.provenance["date"]


def test_the_card_joins_reports_and_notes(clip_run, tmp_path, unclip):
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8, "floor": 0.125}
    report = tmp_path / "retrieval.json"
    report.write_text(json.dumps({"suite": "retrieval", "metrics": {"recall_at_1": figure}}))
    other = tmp_path / "other.json"
    other.write_text('{"minutes": 13}')
    notes = tmp_path / "notes.md"
    notes.write_text("Sees *drawings* only.")
    out = tmp_path / "out"
    code, _, err = unclip(
        "export", clip_run, "--out", out, "--metrics", report, "--metrics", other, "--notes", notes
    )
    assert (code, err) == (0, "")
    made = bundle.load(out, verify=True)
    assert made.metrics == {"retrieval": {"recall_at_1": figure}, "minutes": 13}
    card = (out / "README.md").read_text()
    assert "Sees *drawings* only." in card
    assert "| recall_at_1 | 0.500 | 0.250 to 0.750 | 0.125 | 8 |" in card
    (out / "README.md").write_text("A person may write more here.")
    bundle.load(out, verify=True)


def test_another_clip_is_refused(toy, clip_run, tmp_path, refused, unclip):
    other = make_run(tmp_path / "other", toy.stage("clip").spec, steps=(7,), of=7)
    unclip("export", other, "--out", tmp_path / "clip")
    spec = toy.stage("decoder").spec
    decoder = make_run(tmp_path / "d", spec, clip=str(tmp_path / "clip"))
    err = refused("export", clip_run, decoder, "--out", tmp_path / "out")
    assert "was trained against the CLIP" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_stage_trained_against_an_exported_clip_is_exported_with_it(
    toy, clip_run, tmp_path, unclip, dtype
):
    """README's path: the CLIP's bundle holds rounded parameters, and its run exact ones."""
    clip = tmp_path / "clip"
    flags = ["--dtype", dtype] if dtype else []
    assert unclip("export", clip_run, "--out", clip, *flags)[0] == 0
    held = bundle.load(clip).stage("clip").params
    decoder = make_run(tmp_path / "d", toy.stage("decoder").spec, clip=str(clip))
    config = json.loads((decoder / "config.json").read_text())
    config["identity"] = {"clip": params_digest(held), "data": "f" * 64}  # as training records it
    (decoder / "config.json").write_text(json.dumps(config))
    code, _, err = unclip("export", clip_run, decoder, "--out", tmp_path / "all")
    assert (code, err) == (0, "")


@pytest.fixture
def clip_bundle(toy, tmp_path):
    """As `unclip import` writes it: no record of a training, the source's license and files."""
    provenance = {"imported_from": "clip-hf", "source_files": {"model.safetensors": "0" * 64}}
    made = dataclasses.replace(
        toy,
        name="openai",
        license="MIT",
        stages={"clip": toy.stage("clip")},
        cascade=(),
        arrays={},
        provenance=provenance,
    )
    return bundle.save(made, tmp_path / "clip_bundle")


def decoder_run(toy, folder, clip, digest):
    run = make_run(folder, toy.stage("decoder").spec, clip=str(clip))
    config = json.loads((run / "config.json").read_text())
    config["identity"] = {"clip": digest, "data": "f" * 64}  # as training records it
    (run / "config.json").write_text(json.dumps(config))
    return run


def test_an_imported_clip_is_exported_with_the_runs_trained_against_it(
    toy, clip_bundle, tmp_path, unclip
):
    digest = params_digest(toy.stage("clip").params)
    run = decoder_run(toy, tmp_path / "d", clip_bundle, digest)
    code, _, err = unclip("export", clip_bundle, run, "--out", tmp_path / "all")
    assert (code, err) == (0, "")
    made = bundle.load(tmp_path / "all", verify=True)
    assert {name: stage.dtype for name, stage in made.stages.items()} == {
        "clip": "float32",  # as it was
        "decoder": "float16",
    }
    assert params_digest(made.stage("clip").params) == digest
    assert made.tokenizer.vocab == toy.tokenizer.vocab
    assert made.license == "Apache-2.0; clip: MIT"
    assert list(made.provenance["stages"]) == ["decoder"]
    assert made.provenance["taken_from"]["clip"] == {
        "bundle": "openai",
        "license": "MIT",
        "imported_from": "clip-hf",
        "source_files": {"model.safetensors": "0" * 64},
    }
    card = (tmp_path / "all" / "README.md").read_text()
    assert "clip: from the bundle openai, imported (clip-hf); MIT" in card
    # Once more from the bundle of both: what it took keeps its origin, what it trained its record.
    again = tmp_path / "again"
    words = ("export", tmp_path / "all", "--out", again, "--set", "decoder.guidance=3.0")
    assert unclip(*words)[0] == 0
    second = bundle.load(again)
    assert second.license == made.license
    assert second.provenance["stages"] == made.provenance["stages"]
    assert second.provenance["taken_from"]["clip"]["bundle"] == "openai"
    assert second.provenance["taken_from"]["decoder"]["bundle"] == "all"
    assert second.stage("decoder").spec.sampling.guidance == 3.0


def test_a_bundle_among_the_runs_is_checked_as_a_run_is(
    toy, clip_run, clip_bundle, tmp_path, refused, unclip
):
    out = tmp_path / "out"
    err = refused("export", clip_run, clip_bundle, "--out", out)
    assert "stage clip is given twice, by " in err and "--replace" in err
    run = decoder_run(toy, tmp_path / "d", clip_bundle, "0" * 64)
    assert "another CLIP" in refused("export", run, clip_bundle, "--out", out)
    assert unclip("export", run, "--out", tmp_path / "alone")[0] == 0
    err = refused("export", tmp_path / "alone", clip_bundle, "--out", out)
    assert "stage decoder" in err and "trained on another clip" in err
    assert not out.exists()


def test_the_later_source_of_a_stage_replaces_the_earlier(toy, clip_bundle, tmp_path, unclip):
    """As a student takes its teacher's place; what belonged to the other stage goes with it."""
    run = decoder_run(toy, tmp_path / "d", clip_bundle, params_digest(toy.stage("clip").params))
    whole, alone = tmp_path / "whole", tmp_path / "alone"
    own = toy.stage("decoder").spec.sampling.guidance
    assert unclip("export", run, clip_bundle, "--out", whole)[0] == 0
    assert unclip("export", run, "--out", alone, "--set", "decoder.guidance=7.0")[0] == 0
    for sources, guidance, giver in (
        ((whole, alone), 7.0, "alone"),
        ((alone, whole), own, "whole"),
    ):
        out = tmp_path / giver / "joined"
        done = unclip("export", *sources, "--replace", "--out", out, "--set", "decoder.steps=6")
        assert done[0] == 0, done
        made = bundle.load(out)
        assert set(made.stages) == {"clip", "decoder"}
        assert made.stage("decoder").spec.sampling.guidance == guidance
        assert made.provenance["taken_from"]["decoder"]["bundle"] == giver
    both = last_of_each_stage([read_part(whole), read_part(whole)])
    assert [set(part.bundle.stages) for part in both] == [{"clip", "decoder"}]
    one = read_part(whole).keeping({"decoder"})
    assert set(one.bundle.stages) == {"decoder"} and one.bundle.pca is None
    assert all(key.startswith("decoder.") for key in one.bundle.arrays)


def test_a_bundle_is_exported_again_however_it_is_rounded(toy, clip_run, tmp_path, unclip):
    """The decoder was trained on the CLIP in float16, and the bundle of both has it otherwise."""
    clip = tmp_path / "clip"
    unclip("export", clip_run, "--out", clip)
    run = decoder_run(toy, tmp_path / "d", clip, params_digest(bundle.load(clip).clip.params))
    both = tmp_path / "both"
    assert unclip("export", clip_run, run, "--out", both, "--dtype", "bfloat16")[0] == 0
    assert unclip("export", both, "--out", tmp_path / "again")[0] == 0
    half = jax.tree.map(lambda leaf: leaf.astype(np.float16), toy.clip.params)
    assert params_digest(half) in Part(tmp_path, toy).digests("clip")


def test_a_part_of_another_dvae_is_refused():
    drawn = make_drawn()
    record = {"steps": 1, "data": {"name": "x"}, "train": {}, "identity": {"dvae": "0" * 64}}
    origins = {"dvae": {}, "dalle": {"stages": {"dalle": record}}}
    parts = [
        Part(Path(name), dataclasses.replace(drawn, stages={name: stage}, provenance=origins[name]))
        for name, stage in drawn.stages.items()
    ]
    with pytest.raises(UserError, match="stage dalle of dalle was trained on another dvae"):
        join([], parts, Path("out"), ExportOptions(), print)
    record["identity"] = {"dvae": params_digest(drawn.stages["dvae"].params)}
    joined, _ = join([], parts, Path("out"), ExportOptions(), print)
    assert list(joined.stages) == ["dvae", "dalle"]


@pytest.mark.parametrize(
    ("damaged", "where"),
    [
        ({"stages": {"clip": {"steps": 3}}}, "stages.clip"),
        ({"taken_from": 3}, "taken_from"),
        ({"taken_from": {"clip": {"bundle": "a"}}}, "taken_from"),
    ],
)
def test_a_damaged_origin_is_one_line(clip_bundle, tmp_path, refused, damaged, where):
    path = clip_bundle / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"provenance": damaged}))
    assert f"provenance.{where} is damaged" in refused(
        "export", clip_bundle, "--out", tmp_path / "o"
    )


def test_what_cannot_be_exported(clip_run, tmp_path, refused, unclip):
    out = tmp_path / "out"
    assert "no run given" in refused("export", "--out", out)
    assert "config.json" in refused("export", tmp_path, "--out", out)
    assert "stage clip is given twice" in refused("export", clip_run, clip_run, "--out", out)
    assert "STAGE.FIELD=VALUE" in refused("export", clip_run, "--out", out, "--set", "guidance=2")
    metrics = tmp_path / "metrics.json"
    metrics.write_text("[0.5]")
    assert str(metrics) in refused("export", clip_run, "--out", out, "--metrics", metrics)
    assert "--notes" in refused("export", clip_run, "--out", out, "--notes", tmp_path / "none.md")
    assert not out.exists()


def test_without_git_the_commit_is_unknown(clip_run, tmp_path, unclip, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert unclip("export", clip_run, "--out", tmp_path / "out")[0] == 0
    assert bundle.load(tmp_path / "out").provenance["git_commit"] is None


def test_an_unfinished_run_is_exported_when_asked_for(toy, tmp_path, refused, unclip):
    run = make_run(tmp_path / "run", toy.stage("upsampler_256").spec, of=50)
    assert "step 20 of 50" in refused("export", run, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    code, _, err = unclip("export", run, "--out", tmp_path / "out", "--unfinished")
    assert code == 0
    assert "step 20 of 50" in err


def test_a_prior_without_its_table_samples_with_a_fixed_variance(toy, tmp_path, unclip):
    run = make_run(tmp_path / "run", toy.stage("prior_diffusion").spec)
    code, _, err = unclip("export", run, "--out", tmp_path / "out")
    assert code == 0 and "fixed_small" in err
    made = bundle.load(tmp_path / "out").stage("prior_diffusion").spec
    assert made.diffusion.variance == "fixed_small"


def test_the_clip_that_a_run_recorded_counts(toy, clip_run, tmp_path, refused, unclip):
    """Not what lies today where its CLIP lay then."""
    unclip("export", clip_run, "--out", tmp_path / "clip")
    spec = toy.stage("decoder").spec
    run = make_run(tmp_path / "d", spec, clip=str(tmp_path / "clip"))
    config = json.loads((run / "config.json").read_text())
    config["identity"] = {"clip": "0" * 64, "data": "f" * 64}
    (run / "config.json").write_text(json.dumps(config))
    assert "another CLIP" in refused("export", clip_run, run, "--out", tmp_path / "out")
    assert unclip("export", run, "--out", tmp_path / "alone")[0] == 0
    held = bundle.load(tmp_path / "alone").provenance["stages"]["decoder"]
    assert held["data"]["fingerprint"] == "f" * 64


@pytest.mark.parametrize("text", ["[]", "{", '{"train": 3}'])
def test_damaged_records_are_one_line(clip_run, tmp_path, refused, text):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(text)
    assert "config.json" in refused("export", run, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value"),
    [("identity", None), ("identity", "x"), ("identity", {}), ("seed", None), ("data", {})],
)
def test_a_damaged_config_of_a_run_is_one_line(clip_run, tmp_path, refused, key, value):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(clip_run / "checkpoints")
    config = json.loads((clip_run / "config.json").read_text()) | {key: value}
    (run / "config.json").write_text(json.dumps(config))
    assert key in refused("export", run, "--out", tmp_path / "out")


def test_a_folder_that_is_no_step_is_passed_over(tmp_path, refused, clip_run):
    run = tmp_path / "run"
    (run / "checkpoints" / "²").mkdir(parents=True)
    (run / "config.json").write_text((clip_run / "config.json").read_text())
    assert "no complete checkpoint" in refused("export", run, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        '{"suite": ["x"], "metrics": {}}',
        '{"suite": "x", "metrics": {"r1": {"value": "x", "n": 1}}}',
        '{"suite": "x", "metrics": {"r1": {"value": 1.0, "low": 0.5, "n": 1}}}',
    ],
)
def test_figures_that_no_card_can_print_are_one_line(clip_run, tmp_path, refused, text):
    (tmp_path / "m.json").write_text(text)
    message = refused("export", clip_run, "--out", tmp_path / "o", "--metrics", tmp_path / "m.json")
    assert "m.json" in message


@pytest.mark.parametrize("option", ["--name", "--license", "--out"])
def test_flags_that_are_not_utf8_are_one_line(clip_run, tmp_path, refused, option):
    words = ["--out", tmp_path / "out"] if option != "--out" else []
    bad = tmp_path / "\udcff" if option == "--out" else "\udcff"
    assert option in refused("export", clip_run, *words, option, bad)
