"""Plans against closed forms, against the state that a run really holds, and for the paper."""

from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training import on_mesh
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.chips import CHIPS, chip_of, parse_topology
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.models.stages import init_variables
from unclip_jax.plan.estimate import (
    make_plan,
    plan_program,
    planned_program,
    sharded_bytes,
    step_work,
)
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.sharding import make_mesh
from unclip_jax.train.state import init_state

ROOT = Path(__file__).resolve().parents[2]
PAPER = ("clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256", "upsampler_1024")
# What stays whole on every chip: norms, biases, positions.
SHARE = 1.1


def config(name, *flags):
    path, _, variant = name.partition(":")
    return read_config(str(ROOT / "configs" / path) + (f":{variant}" if variant else ""), flags)


def clip_flops(spec, n):
    """Forward multiply-adds x 2 of CLIP's towers and logits, by hand."""
    cfg = spec.model

    def tower(width, layers, mlp, tokens):
        block = 2 * tokens * width**2 * (3 + 1 + 2 * mlp) + 2 * 2 * tokens**2 * width
        return layers * block

    v, t = cfg.vision, cfg.text
    patches = (v.image_size // v.patch_size) ** 2
    vision = 2 * patches * v.patch_size**2 * 3 * v.width + 2 * v.width * cfg.embed_dim
    vision += tower(v.width, v.layers, v.mlp_ratio, patches + 1)
    text = tower(t.width, t.layers, t.mlp_ratio, t.context) + 2 * t.width * cfg.embed_dim
    return n * (vision + text) + 2 * n * n * cfg.embed_dim


def test_clips_arithmetic_is_that_of_the_formula():
    """Forward, and twice as much backward, but for the images: they need no gradient."""
    sections = config(
        "emoji/clip.py", "--config.train.batch_size=16", "--config.data.vocab_size=600"
    )
    spec, plan = planned_program(sections)[0].spec, make_plan(sections)
    forward = clip_flops(spec, 16)
    stem = 16 * 2 * 64 * 8 * 8 * 3 * spec.model.vision.width
    # The metric's own similarity matrix has no gradient.
    metric = 2 * 16 * 16 * spec.model.embed_dim
    assert plan.flops_per_step == pytest.approx(3 * forward - stem + metric, rel=1e-3)


def test_the_state_is_what_a_run_holds():
    program, _ = planned_program(config("emoji/upsampler_256.py:smoke"))
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    with on_mesh(mesh):
        shardings = program.state_shardings(mesh)
        state = init_state(
            lambda: init_variables(program.spec, program.module, root_key(0)),
            program.tx,
            len(program.metric_names),
            shardings,
        )
    held = {device: 0 for device in jax.devices()}
    for leaf in jax.tree.leaves(state):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert sharded_bytes(program.state, shardings) == max(held.values())
    assert make_plan(config("emoji/upsampler_256.py:smoke")).state_bytes == sum(
        leaf.nbytes for leaf in jax.tree.leaves(state)
    )


# Table 3 of the paper, and CLIP's own (2103.00020, table 18; unCLIP's learning rate): batch size,
# steps, learning rate, beta 2, epsilon, weight decay, average's decay; sampling steps, crop share.
TABLE_3 = {
    "clip": (32768, 634_765, 3e-4, 0.98, 1e-6, 0.2, None, None, None),  # 32 epochs of 650M
    "prior_ar": (4096, 1_000_000, 1.6e-4, 0.91, 1e-10, 4e-2, 0.999, None, None),
    "prior_diffusion": (4096, 600_000, 1.1e-4, 0.96, 1e-6, 6e-2, 0.9999, 64, None),
    "decoder": (2048, 800_000, 1.2e-4, 0.999, 1e-8, 0.0, 0.9999, 250, None),
    "upsampler_256": (1024, 1_000_000, 1.2e-4, 0.999, 1e-8, 0.0, 0.9999, 27, 0.25),
    "upsampler_1024": (512, 1_000_000, 1e-4, 0.999, 1e-8, 0.0, 0.9999, 15, 0.25),
}


@pytest.mark.parametrize("stage", PAPER)
def test_the_papers_configs_train_as_table_3_says(stage):
    batch, steps, rate, b2, eps, weight_decay, average, sampled, crop = TABLE_3[stage]
    sections = config(f"paper/{stage}.py")
    train, optim, data = sections["train"], sections["optim"], sections["data"]
    assert (train["batch_size"], train["steps"]) == (batch, steps)
    assert (optim["learning_rate"], optim["b1"], optim["b2"]) == (rate, 0.9, b2)
    assert (optim["eps"], optim["weight_decay"]) == (eps, weight_decay)
    if average is not None:
        assert optim["ema_decay"] == average
    if sampled is not None:
        assert sections["sampling"]["steps"] == sampled
    if crop is not None:
        side = train["crop_size"] or data["window"]
        assert side / data["image_size"] == crop


@pytest.mark.parametrize("stage", PAPER)
def test_the_papers_state_is_split_over_a_pod(stage):
    """Parameters, moments and average together, whatever the mixture."""
    program, _ = planned_program(config(f"paper/{stage}.py"))
    total = sum(np.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(program.state))
    for sizes in ((1, 64, 1), (1, 16, 4), (2, 16, 2), (1, 8, 1), (1, 2, 4)):
        mesh = jax.sharding.AbstractMesh(sizes, ("data", "fsdp", "tensor"))
        share = sharded_bytes(program.state, program.state_shardings(mesh))
        assert share <= SHARE * total / (sizes[1] * sizes[2]), sizes


def test_sharding_rules_change_the_share_of_a_chip():
    """Without "embed" split over fsdp a chip holds several times as much of the state."""
    topology = parse_topology("v5p:2x2x2")
    flags = ("--config.train.mesh.data=1", "--config.train.mesh.fsdp=8")
    default = make_plan(config("paper/prior_diffusion.py", *flags), topology)
    whole = "--config.train.sharding_rules=(('embed', None),)"
    plan = make_plan(config("paper/prior_diffusion.py", *flags, whole), topology)
    assert plan.state_bytes == default.state_bytes
    assert plan.state_bytes_per_chip > 4 * default.state_bytes_per_chip
    with pytest.raises(UserError, match="config.train.sharding_rules: 'wide'"):
        make_plan(
            config("paper/prior_diffusion.py", "--config.train.sharding_rules=(('wide', None),)")
        )


def test_bounds_scale_with_the_chips():
    sections = config("paper/prior_diffusion.py", "--config.model.transformer.remat=block")
    small = make_plan(sections, parse_topology("v5p:2x2x2"))
    large = make_plan(sections, parse_topology("v5p:4x4x4"))
    assert large.compute_seconds == pytest.approx(small.compute_seconds / 8)
    assert large.chip_hours == pytest.approx(small.chip_hours, rel=0.05)
    peak = CHIPS["v5p"].flops
    assert small.compute_seconds == pytest.approx(small.hardware_flops_per_step / 8 / peak)
    # Full rematerialisation runs the forward pass, a third of the step, once more.
    ratio = small.hardware_flops_per_step / small.flops_per_step
    assert 1.15 < ratio < 4 / 3


def test_the_larger_bound_is_the_steps_time():
    program, _ = planned_program(config("paper/prior_diffusion.py"))
    plan = plan_program(program, parse_topology("v5p:2x2x2"))
    bound = max(plan.compute_seconds, plan.memory_seconds)
    assert plan.step_seconds_bound == bound
    assert plan.mfu_bound == pytest.approx(plan.flops_per_step / 8 / CHIPS["v5p"].flops / bound)
    assert plan.days == pytest.approx(bound * 600_000 / (24 * 3600))
    assert plan.chip_hours == pytest.approx(bound * 600_000 / 3600 * 8)
    # Adam reads and writes the state once a step, gradients are written and read, all as float32.
    least = 2 * plan.state_bytes_per_chip + 2 * 4 * plan.params / (plan.mesh[1] * plan.mesh[2])
    products = step_work(program, plan.batch_size // 8).bytes
    beside = plan.memory_seconds * CHIPS["v5p"].hbm_rate - products
    assert beside == pytest.approx(least, rel=1e-3)


# Google Cloud's pages of each generation and NVIDIA's data sheets (SXM, dense): bfloat16 TFLOPS,
# memory in bytes, GB a second.
PUBLISHED = {
    "v4": (275, 32 * 2**30, 1228),
    "v5e": (197, 16 * 2**30, 819),
    "v5p": (459, 95 * 2**30, 2765),
    "v6e": (918, 32 * 2**30, 1640),
    "a100": (312, 80e9, 2039),
    "h100": (989.4, 80e9, 3350),
    "h200": (989.4, 141e9, 4800),
}


def test_chips_have_their_makers_figures():
    found = {n: (c.flops / 1e12, c.hbm_bytes, c.hbm_rate / 1e9) for n, c in CHIPS.items()}
    assert found == {name: pytest.approx(figures) for name, figures in PUBLISHED.items()}


@pytest.mark.parametrize("text", ["v5p", "v9:4", "v5p:0", "v5p:4x", "v5p:-1", ""])
def test_topologies_that_are_none(text):
    with pytest.raises(UserError, match="topology"):
        parse_topology(text)


def test_chips_are_known_by_the_names_jax_gives_them():
    names = {"TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5p": "v5p", "TPU v6 lite": "v6e"}
    names |= {"TPU v5": "v5p", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA H200": "h200"}
    assert {kind: chip_of(kind).name for kind in names} == names
    assert chip_of("cpu") is None


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--config.model.unet.channels=33"], "channels=33 must be a multiple of groups=32"),
        (["--config.train.crop_size=12"], "crop_size=12 must be a multiple of 8, at most 256"),
        (["--config.train.crop_size=264"], "crop_size=264 must be a multiple of 8, at most 256"),
    ],
)
def test_sizes_that_do_not_fit_together_are_one_line(flags, complaint):
    with pytest.raises(UserError, match=complaint):
        make_plan(config("paper/upsampler_256.py", *flags))


def test_a_clip_of_another_stage_is_refused():
    decoder = config("paper/decoder.py")
    with pytest.raises(UserError, match="stage 'decoder', not of a CLIP"):
        planned_program(decoder, decoder)


def test_groups_of_sam_may_outgrow_what_a_chip_holds():
    sections = config("paper/clip.py", "--config.train.sam_group=4096")
    assert make_plan(sections, parse_topology("v5p:4x4x4")).chips == 64


def test_a_plan_of_micro_batches():
    sections = config("paper/prior_diffusion.py", "--config.train.accumulation=4")
    whole = make_plan(config("paper/prior_diffusion.py"))
    assert make_plan(sections).flops_per_step == whole.flops_per_step


@pytest.mark.parametrize("stage", ["prior_ar", "prior_diffusion"])
def test_no_states_are_planned_for_a_prior_that_reads_its_own_tokens(stage):
    """With the sizes of its CLIP too, and a store of embeddings in place of images."""
    flags = ("--config.data.embeddings=train", "--config.eval.embeddings=test")
    program, _ = planned_program(config(f"paper/{stage}.py", *flags), config("paper/clip.py"))
    batch = program.batch(4096)
    assert "text_states" not in batch
    assert program.constants.empty.text_states is None
    assert batch["tokens"].shape == (4096, 77)
    assert batch["own_tokens"].shape == (4096, 256)


def test_a_decoder_with_its_own_text_encoder_is_planned_without_a_clip():
    """Nothing says how long that CLIP's captions are; every size is a number all the same."""
    program, assumed = planned_program(config("paper/decoder.py"))
    assert assumed is None
    leaves = jax.tree.leaves((program.constants, program.batch(8)))
    assert all(isinstance(size, int) for leaf in leaves for size in leaf.shape)
    assert program.batch(8)["own_tokens"].shape == (8, 256)
