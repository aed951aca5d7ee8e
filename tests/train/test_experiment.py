"""Whole runs on procedural images: stop, kill and resume change no number."""

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.hosts import UNOPTIMIZED
from tests.report_page import Page, assert_plots, recorded
from tests.toy import toy_bundle
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.runs import read_run
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths
from unclip_jax.train import experiment
from unclip_jax.train.fitting import estimate_variance_table
from unclip_jax.train.loop import Hook
from unclip_jax.train.report import PHASES
from unclip_jax.train.resolve import changed_keys

ROOT = Path(__file__).resolve().parents[2]
PRIOR = "configs/emoji/prior_diffusion.py:smoke"
DECODER = "configs/emoji/decoder.py:smoke"


def config(*flags, name=PRIOR):
    path, _, variant = name.partition(":")
    return read_config(f"{ROOT / path}:{variant}", flags)


def record(workdir):
    return (workdir / "metrics.jsonl").read_text()


def final_state(workdir):
    """The raw arrays of the last checkpoint."""
    import orbax.checkpoint as ocp

    path = workdir / "checkpoints" / "20" / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        return jax.tree.leaves(checkpointer.restore(path.absolute()))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    assert experiment.train(config(), workdir)
    return workdir


def test_a_run_writes_what_it_promises(unbroken):
    steps = [json.loads(line)["step"] for line in record(unbroken).splitlines()]
    assert steps == [2, 4, 6, 8, 10, 10, 12, 14, 16, 18, 20, 20]
    assert json.loads((unbroken / "config.json").read_text())["model"]["image_dim"] == 16
    assert json.loads((unbroken / "environment.json").read_text())[0]["versions"]["jax"]
    table = np.load(unbroken / "variance_table.npy")
    assert table.shape == (1000,) and table.min() >= 0 and np.isfinite(table).all()
    assert (unbroken / "tokenizer.json").exists()
    times = [json.loads(line) for line in (unbroken / "timings.jsonl").read_text().splitlines()]
    assert times[-1]["images_per_second"] > 0


def test_the_report_shows_the_whole_run(unbroken):
    page = Page((unbroken / "report.html").read_text())
    for series, key in (("training", "loss"), ("held out", "held_out/loss")):
        assert_plots(page, "loss", series, recorded(unbroken / "metrics.jsonl", key))
    shown = {name for name in PHASES if re.search(rf"^{name} [\d.]+%$", page.text, re.M)}
    assert shown == set(PHASES) - {"samples"}
    assert "Step 20 of 20" in page.text and "http" not in (unbroken / "report.html").read_text()


def test_the_variance_table_is_that_of_the_averaged_parameters(unbroken, tmp_path, monkeypatch):
    """A finished run that has lost its table makes it again, from the same parameters."""
    shutil.copytree(unbroken, tmp_path / "run")
    (tmp_path / "run" / "variance_table.npy").unlink()
    given = []

    def look(program, inputs, params, *rest):
        given.append(jax.device_get(params))
        return estimate_variance_table(program, inputs, params, *rest)

    monkeypatch.setattr(experiment, "estimate_variance_table", look)
    assert experiment.train(config(), tmp_path / "run")
    averaged = flatten_paths(read_run(unbroken).ema_params)
    found = {key: value for key, value in flatten_paths(given[0]).items() if key in averaged}
    assert len(found) == len(averaged)
    for key, value in found.items():
        np.testing.assert_array_equal(value, averaged[key], err_msg=key)
    table = np.load(tmp_path / "run" / "variance_table.npy")
    np.testing.assert_array_equal(table, np.load(unbroken / "variance_table.npy"))


def test_a_run_of_an_earlier_version_goes_on(unbroken, tmp_path):
    """Its config lacks what later ones say, and names what no run trains."""
    shutil.copytree(unbroken, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    written = json.loads(path.read_text())
    for section, keys in (("data", ("threads", "min_side", "mix")), ("train", ("sam_rho",))):
        for key in keys:
            del written[section][key]
    written["optim"]["frozen"] = r"(^|/)clip_(mean|std)$"
    written["model"]["text_dim"] = 16  # once filled in where nobody reads it
    path.write_text(json.dumps(written))
    assert experiment.train(config("--config.data.threads=3"), tmp_path / "run")
    with pytest.raises(UserError, match="changed: config.data.min_side"):
        experiment.train(config("--config.data.min_side=3"), tmp_path / "run")


@pytest.mark.parametrize("stop_at", [3, 12])
def test_a_run_stopped_by_sigterm_resumes_to_the_bit(unbroken, tmp_path, stop_at):
    def terminate(step, state):
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    stopper = lambda run: (Hook(1, terminate),)  # noqa: E731
    assert not experiment.train(config(), tmp_path, make_hooks=stopper)
    assert (tmp_path / "checkpoints" / str(stop_at)).is_dir()
    assert experiment.train(config(), tmp_path)
    assert record(tmp_path) == record(unbroken)
    page = Page((tmp_path / "report.html").read_text())
    assert_plots(page, "loss", "training", recorded(unbroken / "metrics.jsonl", "loss"))
    for ours, theirs in zip(final_state(tmp_path), final_state(unbroken), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_finished_run_is_left_as_it_is(unbroken):
    before = record(unbroken)
    assert experiment.train(config(), unbroken)
    assert record(unbroken) == before


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_run_ends_as_it_would_have(
    unbroken, tmp_path
):
    workdir, said = shutil.copytree(unbroken, tmp_path / "run"), []
    for path in (workdir / "checkpoints" / "20" / "state").rglob("manifest.ocdbt"):
        path.write_bytes(b"\0" + path.read_bytes()[1:])
    assert experiment.train(config(), workdir, log=said.append)
    assert record(workdir) == record(unbroken)
    for ours, theirs in zip(final_state(workdir), final_state(unbroken), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [line for line in said if "damaged" in line] == [
        "the checkpoint of step 20 is damaged (a file is corrupt); moved to "
        f"{workdir / 'checkpoints.damaged' / '20'}, resuming from step 15"
    ]


def test_a_damaged_config_of_a_run_is_one_line_with_the_remedy(unbroken, tmp_path):
    workdir = shutil.copytree(unbroken, tmp_path / "run")
    path = workdir / "config.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(
        UserError, match=f"{path}: not readable as JSON .*; delete it and run again"
    ):
        experiment.train(config(), workdir)
    path.unlink()
    assert experiment.train(config(), workdir)
    assert path.read_text() == (unbroken / "config.json").read_text()


def test_a_changed_config_is_an_error_that_lists_the_keys(unbroken):
    changed = config("--config.optim.learning_rate=0.5", "--config.train.steps=30")
    with pytest.raises(UserError, match="config.optim.learning_rate, config.train.steps"):
        experiment.train(changed, unbroken)


def test_a_text_that_an_older_config_lacked_is_no_change_while_it_is_empty():
    before = {"data": {"name": "a"}}
    assert changed_keys(before, {"data": {"name": "a", "embeddings": ""}}) == []
    changed = changed_keys(before, {"data": {"name": "a", "embeddings": "b", "count": 0}})
    assert changed == ["config.data.embeddings", "config.data.count"]


def test_updates_that_are_not_finite_stop_the_run_with_the_range(tmp_path):
    flags = ("--config.optim.learning_rate=1e30", "--config.optim.warmup_steps=0")
    with pytest.raises(UserError, match=r"steps \d+ to \d+ were not finite"):
        experiment.train(config(*flags), tmp_path)


def test_a_workdir_in_which_no_checkpoint_could_be_written_is_refused_at_once(tmp_path):
    workdir = tmp_path / "back\\" / "run"
    with pytest.raises(UserError, match="without a backslash"):
        experiment.train(config(), workdir)
    assert not list(tmp_path.iterdir())


def test_a_stage_that_needs_a_clip_says_so(tmp_path):
    with pytest.raises(UserError, match="config.clip=BUNDLE"):
        experiment.train(config("--config.clip="), tmp_path)


def test_a_config_without_a_section_says_which(tmp_path):
    whole = config()
    partial = {key: value for key, value in whole.items() if key not in ("optim", "data")}
    with pytest.raises(UserError, match="lacks config.data, config.optim"):
        experiment.train(partial, tmp_path)


def test_the_papers_caption_path_trains(tmp_path):
    flags = ("--config.train.steps=2", "--config.train.sample_every=0")
    assert experiment.train(config(*flags, name=f"{DECODER}_glide"), tmp_path)
    losses = [json.loads(line) for line in record(tmp_path).splitlines()]
    assert np.isfinite([row["loss"] for row in losses if "loss" in row]).all()
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model"]["text_encoder"]["context"] == 16


def test_a_standardized_prior_trains_and_keeps_what_it_is_given(unbroken, tmp_path):
    """Statistics of the data in a fresh run; those of the bundle where weights are taken over."""
    flags = ("--config.train.steps=2", "--config.embedding_norm.kind=standardize")
    assert experiment.train(config(*flags), tmp_path / "fresh")
    fresh = read_run(tmp_path / "fresh")
    assert np.std(fresh.ema_params["clip_mean"]) > 0
    assert (fresh.ema_params["clip_std"] != 1).all()
    stage = bundle.Stage(fresh.spec, {**fresh.ema_params, "clip_mean": np.full(16, 7, np.float32)})
    bundle.save(bundle.Bundle("given", {"prior_diffusion": stage}), tmp_path / "given")
    given = f"--config.init_from={tmp_path / 'given'}"
    assert experiment.train(config(*flags, given), tmp_path / "tuned")
    np.testing.assert_array_equal(read_run(tmp_path / "tuned").ema_params["clip_mean"], 7)


def test_a_start_that_failed_does_not_block_the_next(tmp_path):
    with pytest.raises(UserError, match="config.eval.batch_size=12 must be a multiple of the 8"):
        experiment.train(config("--config.eval.batch_size=12"), tmp_path)
    with pytest.raises(UserError, match="split"):
        experiment.train(config("--config.eval.split=none"), tmp_path)
    (tmp_path / "report.html").mkdir()  # which no page can be written to
    said = []
    assert experiment.train(config("--config.train.steps=2"), tmp_path, log=said.append)
    assert [line for line in said if line.startswith("report.html is not written: UserError")]


def test_another_clip_in_the_same_place_is_not_resumed_with(toy_clip, tmp_path):
    flags = (
        "--config.train.steps=2",
        f"--config.clip={toy_clip}",
        "--config.model.text=clip_states",
    )
    assert experiment.train(config(*flags), tmp_path / "run")
    other = toy_bundle(seed=1)
    bundle.save(dataclasses.replace(other, stages={"clip": other.stage("clip")}, cascade=()),
                toy_clip, overwrite=True)  # fmt: skip
    with pytest.raises(UserError, match="config.identity.clip"):
        experiment.train(config(*flags), tmp_path / "run")


@pytest.fixture
def toy_clip(tmp_path):
    """A bundle of a CLIP alone."""
    held = toy_bundle()
    clip = dataclasses.replace(held, stages={"clip": held.stage("clip")}, cascade=())
    return bundle.save(clip, tmp_path / "clip")


def test_before_the_first_step_signals_do_what_they_did_before(tmp_path):
    """There is nothing to save, and a compilation may take longer than the grace that is given."""
    told, seen = [], []

    def terminate(text):
        os.kill(os.getpid(), signal.SIGTERM)
        told.append(text)

    flags = ("--config.train.steps=2", "--config.train.cache_clip=True")
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        assert experiment.train(config(*flags), tmp_path, log=terminate)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told and seen == [signal.SIGTERM] * len(told)


def test_a_second_start_on_a_workdir_is_refused_and_the_first_is_unharmed(unbroken, tmp_path):
    refused = []

    def again(step, state):
        if step == 3:
            with pytest.raises(UserError, match="is in use by unclip train, process") as error:
                experiment.train(config(), tmp_path)
            refused.append(error)

    assert experiment.train(config(), tmp_path, make_hooks=lambda run: (Hook(1, again),))
    assert len(refused) == 1
    assert record(tmp_path) == record(unbroken)
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("train.log_every=0", "log_every=0"),
        ("train.save_every=0", "save_every=0"),
        ("train.batch_size=-8", "batch_size=-8"),
        ("train.accumulation=0", "accumulation=0"),
        ("train.keep_latest=0", "keep_latest=0"),
        ("train.mesh.data=0", "data=0"),
        ("train.caption_drop=-3.0", "caption_drop=-3.0"),
        ("eval.every=0", "every=0"),
        ("optim.learning_rate=nan", "learning_rate: expected a finite number, got nan"),
        ("optim.ema_decay=2.0", "ema_decay=2.0"),
        ("optim.b2=1.0", "b2=1.0"),
        ("optim.frozen=(", "regular expression"),
        ("seed=-1", "seed=-1"),
        ("stage=foo", "'foo'"),
    ],
)
def test_numbers_with_which_nothing_can_be_trained(flag, words, tmp_path):
    with pytest.raises(UserError, match=re.escape(words)):
        experiment.train(config(f"--config.{flag}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def command(workdir, *flags):
    return [
        *(sys.executable, "-m", "unclip_jax", "train", "--config", str(ROOT / DECODER)),
        *("--workdir", str(workdir), *flags),
    ]


def run_command(workdir, *flags, **options):
    """Runs `unclip train` in a process of its own, on one device, with the tests' compile cache."""
    cache = jax.config.jax_compilation_cache_dir
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "JAX_PLATFORMS": "cpu"}
    env |= {"XLA_FLAGS": UNOPTIMIZED, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(workdir, *flags), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_a_run_killed_at_a_random_moment_resumes_to_the_bit(tmp_path):
    """Kills while the run trains or saves; the seed of the moment is shown on failure.

    `make kill-test` does so twenty times to every command.
    """
    steps = "--config.train.steps=80"
    whole = run_command(tmp_path / "whole", steps)
    _, errors = whole.communicate()
    assert whole.returncode == 0, errors.decode()
    assert list((tmp_path / "whole" / "samples").glob("*.png"))

    seed = time.time_ns() % 2**32
    killed = tmp_path / "killed"
    process = run_command(killed, steps)
    wait_for_steps(process, killed / "timings.jsonl")
    time.sleep(random.Random(seed).uniform(0.0, 0.5))
    assert process.poll() is None, f"{seed=}: the run had ended before it was killed"
    process.kill()
    process.communicate()
    last = run_command(killed, steps)
    _, errors = last.communicate()
    assert last.returncode == 0, f"{seed=} {errors.decode()}"
    assert record(killed) == record(tmp_path / "whole"), f"{seed=}"


def wait_for_steps(process, path):
    """Returns when the run has written its first new line, or has ended."""
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None:
        if path.exists() and path.stat().st_size not in (0, before):
            return
        time.sleep(0.05)
