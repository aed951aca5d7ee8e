"""Few-step students: what a config asks for, the loss of guided targets, a run to its samples."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.shipped_configs import ROOT, spec_of
from tests.toy import random_params
from tests.training import BATCH, Toy
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle, Stage
from unclip_jax.checkpoint.runs import params_digest, read_run
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths
from unclip_jax.core.types import Cond
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.stages import make_module
from unclip_jax.sampling.settings import override
from unclip_jax.sampling.stage_sampler import StageSampler
from unclip_jax.train import experiment
from unclip_jax.train.config import DistillConfig, TrainConfig
from unclip_jax.train.distill import load_teacher, with_student
from unclip_jax.train.resolve import make_spec
from unclip_jax.train.step import batch_keys
from unclip_jax.train.tasks import make_task
from unclip_jax.train.tasks.diffusion import NOISE, make_inputs, purpose_keys
from unclip_jax.train.tasks.distill import draw_starts
from unclip_jax.workflows.export import ExportOptions, assemble

DECODER = "configs/emoji/decoder.py:distill"
UPSAMPLER = "configs/emoji/upsampler_256.py:smoke_distill"
STAGE = "upsampler_256"
STEPS, GUIDANCE = (900, 700, 450, 200), 1.7
SIZES = [  # one level, which compiles in seconds
    f"--config.model.unet.{size}"
    for size in ("channels=8", "channel_mult=(1,)", "norm_groups=4", "time_width=8")
]


def config(name, *flags):
    return read_config(str(ROOT / name), flags)


def test_a_student_takes_every_eighth_step_of_its_teacher_without_guidance():
    given = config(DECODER, "--config.init_from=emoji")
    found = with_student(given)
    sampling, distill = found["sampling"], found["train"]["distill"]
    assert (sampling["sampler"], sampling["steps"], sampling["guidance"]) == ("ddim", 5, 1.0)
    assert sampling["step_list"] == list(given["sampling"]["step_list"][::8])
    assert sampling["distilled_guidance"] == distill["guidance"] == 1.5
    assert tuple(distill["step_list"]) == tuple(given["sampling"]["step_list"])
    assert with_student(found) == found  # what a run has written down is not halved again
    plain = config("configs/emoji/decoder.py")
    assert with_student(plain) is plain


@pytest.mark.parametrize(
    ("name", "most", "least"),
    [
        ("emoji/decoder", 40, 5),
        ("emoji/upsampler_256", 8, 2),
        ("paper/decoder", 64, 8),
        ("paper/upsampler_256", 32, 4),
        ("paper/upsampler_1024", 16, 4),
    ],
)
def test_every_student_has_the_steps_that_its_table_states(name, most, least):
    """docs/performance.md, "Few-step students"; its smoke run goes from 8 steps to 2."""
    for variant, steps in (("distill", (most, least)), ("smoke_distill", (8, 2))):
        given = config(f"configs/{name}.py:{variant}", "--config.init_from=b", "--config.clip=b")
        found = with_student(given)
        spec = make_spec(found)
        assert (len(found["train"]["distill"]["step_list"]), spec.sampling.steps) == steps
        assert spec.diffusion.prediction == ("v" if name.startswith("paper") else "x0")


@pytest.mark.parametrize(
    ("name", "flag", "words"),
    [
        (DECODER, "init_from=", "needs its teacher: pass --config.init_from=BUNDLE"),
        (DECODER, "train.distill.halvings=4", "40 steps, which cannot be halved 4 times"),
        (DECODER, "diffusion.prediction=eps", "pass --config.diffusion.prediction=v"),
        (DECODER, "train.distill.prediction=eps", "distill.first_span=1"),
        (DECODER, "train.distill.step_list=(9,5)", "leave them None, and set config.sampling"),
        (DECODER, "train.distill.guidance=3.0", "leave them None, and set config.sampling"),
        (DECODER, "sampling.sampler=ddpm", "pass --config.sampling.sampler=ddim"),
        (DECODER, "sampling.eta=0.5", "pass --config.sampling.eta=0.0"),
        ("configs/emoji/prior_diffusion.py", "train.distill.halvings=1", "not for stage prior_"),
        ("configs/emoji/prior_ar.py", "train.distill.halvings=1", "not for stage prior_ar"),
    ],
)
def test_what_cannot_be_distilled_is_refused(name, flag, words):
    given = config(name, "--config.init_from=emoji", f"--config.{flag}")
    with pytest.raises(UserError, match=words) as error:
        with_student(given)
    assert "\n" not in str(error.value)


def test_the_settings_of_a_student_cannot_be_those_of_its_teacher():
    own = SamplingConfig("ddim", steps=2, distilled_guidance=3.0)
    assert override(own, "", steps=4, guidance=1.0).steps == 4
    for changes in ({"guidance": 3.0}, {"sampler": "ddpm"}):
        with pytest.raises(UserError, match="not for a few-step student"):
            override(own, "", **changes)


@pytest.fixture(scope="module")
def decoder():
    """A toy decoder's student of v, and its task, whose teacher predicts eps and is guided."""
    toy = Toy("decoder")
    spec = dataclasses.replace(
        toy.spec,
        diffusion=DiffusionConfig(prediction="v", variance="learned_range", loss="hybrid"),
        sampling=SamplingConfig("ddim", 2, STEPS[::2], distilled_guidance=GUIDANCE),
    )
    distill = DistillConfig(
        halvings=1, first_span=1, prediction="eps", step_list=STEPS, guidance=GUIDANCE
    )
    train = TrainConfig(steps=10, batch_size=BATCH, distill=distill)
    task = make_task(spec, make_module(spec), train, toy.clip)
    constants = toy.constants.replace(frozen=random_params(spec, 1))
    inputs, _ = make_inputs(spec, train, toy.clip)
    return spec, task, inputs, constants, toy.batch()


def estimates(outputs, x, t, guidance=None):
    """x_0 of v, or of guided eps kept in [-1, 1], in float64 by the definitions."""
    u = (np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2
    bar = np.cumprod(1 - np.minimum(1 - np.cos(u[1:]) ** 2 / np.cos(u[:-1]) ** 2, 0.999))[t]
    alpha, sigma = (np.sqrt(level)[:, None, None, None] for level in (bar, 1 - bar))
    if guidance is None:
        return alpha * x - sigma * outputs[0]
    eps = outputs[1] + guidance * (outputs[0] - outputs[1])
    return np.clip((x - sigma * eps) / alpha, -1, 1), alpha, sigma


def test_the_loss_is_that_of_the_guided_teachers_two_steps(decoder):
    """Of a held-out batch: rows start at the student's two timesteps, in float64 by hand."""
    spec, task, inputs, constants, batch = decoder
    params, keys = random_params(spec, 2), batch_keys(jax.random.key(3), BATCH)
    module = make_module(spec)
    x0, cond = jax.jit(lambda b: inputs(params, constants, b, keys, False))(batch)
    noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(purpose_keys(keys, NOISE))

    @jax.jit
    def network(params, x, t, keep):
        empty = jax.tree.map(lambda a, b: jnp.broadcast_to(b, a.shape), cond.text, constants.empty)
        text = jax.tree.map(lambda a, b: jnp.where(keep, a, b), cond.text, empty)
        given = cond.replace(text=text, image_keep=jnp.full(BATCH, keep))
        return module.apply({"params": params}, x, t, given, False)[..., :3]

    def outputs(params, x, t):
        pair = [network(params, jnp.asarray(x, jnp.float32), jnp.asarray(t), k) for k in (1, 0)]
        return [np.asarray(out, np.float64) for out in pair]

    start = np.repeat([0, 2], BATCH // 2)
    t, middle = np.array(STEPS)[start], np.array(STEPS)[start + 1]
    end = np.append(STEPS, 0)[start + 2]
    _, alpha, sigma = estimates([0, 0], np.zeros((1, 1, 1, 1)), t, 0.0)
    x = alpha * np.asarray(x0, np.float64) + sigma * np.asarray(noise, np.float64)
    first, *_ = estimates(outputs(constants.frozen, x, t), x, t, GUIDANCE)
    _, alpha_m, sigma_m = estimates([0, 0], np.zeros((1, 1, 1, 1)), middle, 0.0)
    x_m = alpha_m * first + sigma_m / sigma * (x - alpha * first)
    second, *_ = estimates(outputs(constants.frozen, x_m, middle), x_m, middle, GUIDANCE)
    _, alpha_e, sigma_e = estimates([0, 0], np.zeros((1, 1, 1, 1)), end, 0.0)
    clean = (start == 2)[:, None, None, None]
    alpha_e, sigma_e = np.where(clean, 1.0, alpha_e), np.where(clean, 0.0, sigma_e)
    x_e = alpha_e * second + sigma_e / sigma_m * (x_m - alpha_m * second)
    wanted = (x_e - sigma_e / sigma * x) / (alpha_e - sigma_e / sigma * alpha)
    errors = ((estimates(outputs(params, x, t), x, t) - wanted) ** 2).mean((1, 2, 3))
    weight = np.maximum((alpha / sigma) ** 2, 1.0)[:, 0, 0, 0]

    held_out = jax.jit(lambda p, c, b: task.loss(p, c, b, keys, False))
    loss, metrics = held_out(params, constants, batch)
    np.testing.assert_allclose(loss, (weight * errors).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["mse"][0] / metrics["mse"][1], errors.mean(), rtol=1e-4)
    assert metrics["span"].tolist() == [2 * BATCH, BATCH]


def test_training_steps_follow_the_schedule(decoder):
    """Of 10 steps the first half learns single steps, the second pairs."""
    spec, task, _, constants, batch = decoder
    params, keys = random_params(spec, 2), batch_keys(jax.random.key(3), BATCH)

    @jax.jit
    def span(step):  # all else is left out of the program
        return task.loss(params, constants, batch, keys._replace(step=step), True)[1]["span"]

    assert [float(span(step)[0]) / BATCH for step in (0, 4, 5, 9)] == [1, 1, 2, 2]


def test_rows_start_at_timesteps_of_the_student():
    starts = np.asarray(draw_starts(batch_keys(jax.random.key(0), 256), 8, jnp.int32(4)))
    assert sorted(set(starts.tolist())) == [0, 4]
    assert 96 < (starts == 0).sum() < 160


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    spec = spec_of(UPSAMPLER, *SIZES)
    held = Bundle("teacher", {STAGE: Stage(spec, random_params(spec, 5))})
    return str(bundle.save(held, tmp_path_factory.mktemp("teacher") / "bundle"))


def run_config(teacher):
    short = ("train.steps=4", "train.log_every=2", "train.sample_every=0", "eval.batches=0")
    given = (*short, "train.mesh.fsdp=2", f"init_from={teacher}")
    return config(UPSAMPLER, *SIZES, *(f"--config.{flag}" for flag in given))


def test_a_student_is_trained_exported_and_sampled(teacher, tmp_path):
    """The span doubles at step 2 of 4; the bundle is sampled in the student's two steps."""
    runs = []
    seen = {"make_hooks": lambda run: runs.append(run) or ()}
    assert experiment.train(run_config(teacher), tmp_path / "run", **seen)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["span"] for row in rows if "span" in row] == [2.0, 4.0]

    given = bundle.load(teacher).stage(STAGE).params
    frozen = runs[0].constants.frozen
    for path, value in flatten_paths(jax.device_get(frozen)).items():
        np.testing.assert_array_equal(value, flatten_paths(given)[path], err_msg=path)
    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(frozen))
    whole = read_run(tmp_path / "run")
    moved = [
        np.abs(a - b).max()
        for a, b in zip(jax.tree.leaves(whole.ema_params), jax.tree.leaves(given), strict=True)
    ]
    assert max(moved) > 0

    made, _ = assemble([tmp_path / "run"], tmp_path / "out", ExportOptions(), print)
    record = made.provenance["stages"][STAGE]
    assert record["identity"]["teacher"] == params_digest(given)
    assert record["train"]["distill"]["step_list"][::4] == [999, 428]
    model = bundle.load(bundle.save(made, tmp_path / "out"))
    sampler = StageSampler(model, STAGE)
    assert (sampler.num_steps, sampler.sampling.sampler) == (2, "ddim")
    assert not sampler.nets[0].program.is_guided
    images = sampler(
        Cond(low_res=jnp.zeros((1, 16, 16, 3))), jax.random.split(jax.random.key(0), 1)
    )
    assert images.shape == (1, 32, 32, 3) and np.abs(images).max() <= 1.0


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("diffusion.prediction=v", "predicts x0, not v"),
        ("diffusion.num_steps=500", "--config.diffusion.num_steps=1000"),
        ("model.unet.channels=16", "other sizes than config.model"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(teacher, flag, words):
    with pytest.raises(UserError, match=words):
        load_teacher(spec_of(UPSAMPLER, *SIZES, f"--config.{flag}"), teacher, DistillConfig(2))


def test_a_student_is_no_teacher(teacher, tmp_path):
    held = bundle.load(teacher).stage(STAGE)
    sampling = SamplingConfig("ddim", steps=2, distilled_guidance=1.0)
    stage = dataclasses.replace(held, spec=dataclasses.replace(held.spec, sampling=sampling))
    name = bundle.save(Bundle("student", {STAGE: stage}), tmp_path / "student")
    with pytest.raises(UserError, match="is a student already"):
        load_teacher(held.spec, str(name), DistillConfig(2))
