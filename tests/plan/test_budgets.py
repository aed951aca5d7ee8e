"""Key programs cost what tests/budgets.json says; `make budgets` accepts another cost.

The collectives and the memory of sharded gradients, which are compiled anyway, are checked in
tests/train/test_sharding.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import budgets
from tests.toy import CONTEXT, DIM, SIZE, root, toy_specs
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.stages import abstract_params, make_module
from unclip_jax.plan.estimate import planned_program
from unclip_jax.sampling import parallel, programs
from unclip_jax.sampling.encode import text_encoder
from unclip_jax.sampling.programs import ProgramKey

ROWS = 2
VOCABULARY, SAMPLED = 540, ("prior_diffusion", "decoder", "upsampler_256")
STAGES = ("clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256")


def training(stage):
    """A step of the family's smallest size, from its config as `unclip train` makes it."""
    program, _ = planned_program(read_config(f"configs/emoji/{stage}.py:smoke", ()))
    train = dataclasses.replace(program.settings.train, batch_size=ROWS, accumulation=1)
    return program.step(train=train), program.state, program.constants, program.batch(ROWS)


def shape(*sides, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sides, dtype)


def captions(*lead):
    states, mask = shape(*lead, CONTEXT, DIM), shape(*lead, CONTEXT, dtype=bool)
    return TextFeatures(text_emb=shape(*lead, DIM), text_states=states, text_mask=mask)


def sampling(stage):
    """A toy stage reads its condition and takes one guided step: the loop's body counts once."""
    spec = toy_specs(VOCABULARY)[stage]
    table = np.ones(1000) if spec.diffusion.variance == "analytic" else None
    program = ProgramKey.of(spec, spec.sampling, table=table)
    lead = (parallel.device_count(), ROWS)
    low_res = shape(*lead, SIZE, SIZE, 3)
    given = {"image_emb": shape(*lead, DIM), "text": captions(*lead), "low_res": low_res}
    cond = Cond(**{name: given[name] for name in spec.model.required_cond})
    uncond = captions(1) if cond.text is not None else None

    def sample(params, scale, uncond, cond, span):
        keys = jax.random.split(root(), lead)
        state = programs.start_program(program)(keys, None)
        prepared = programs.prepare_program(program)(params, uncond, cond)
        return programs.steps_program(program)(params, scale, prepared, keys, span, state).x

    span = (shape(dtype=jnp.int32), shape(dtype=jnp.int32))
    return sample, abstract_params(spec), shape(), uncond, cond, span


def captions_embedded():
    spec = toy_specs(VOCABULARY)["clip"]
    tokens, mask = (shape(ROWS, CONTEXT, dtype=kind) for kind in (jnp.int32, bool))
    return text_encoder(spec, "float32"), abstract_params(spec), tokens, mask


def images_embedded():
    spec = toy_specs(VOCABULARY)["clip"]
    encode = functools.partial(make_module(spec).apply, method="encode_image")
    return encode, {"params": abstract_params(spec)}, shape(ROWS, SIZE, SIZE, 3)


PROGRAMS = {
    **{f"training/{stage}": functools.partial(training, stage) for stage in STAGES},
    **{f"sampling/{stage}": functools.partial(sampling, stage) for stage in SAMPLED},
    "embedding/captions": captions_embedded,
    "embedding/images": images_embedded,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_costs_what_its_budget_says(name):
    budgets.check("traced", name, budgets.traced_cost(*PROGRAMS[name]()))


def test_every_budget_is_of_a_program():
    budgets.check_names("traced", PROGRAMS)


def test_another_cost_fails_and_says_how_to_accept_it():
    """A norm more shows in the reductions, however small its arithmetic is."""
    x = shape(64, 4, 4, 32)

    def network(x, norms):
        for _ in range(norms):
            x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
        return x @ jnp.ones((32, 32))

    once, twice = (budgets.traced_cost(functools.partial(network, norms=n), x) for n in (1, 2))
    assert once["flops"] == twice["flops"] == 2 * 64 * 16 * 32 * 32
    assert twice["reductions"] == 2 * once["reductions"]
    assert budgets.differences(once, once, 0.0) == []
    lines = budgets.differences(once, twice, 0.1)
    assert [line.split(":")[0].strip() for line in lines] == ["elementwise_bytes", "reductions"]
    assert f"{once['reductions']:,} -> {twice['reductions']:,} (+100.0%" in lines[1]
    assert budgets.differences({"all-gather count": 3}, {"all-reduce count": 1}, 0.05) == [
        "  all-gather count: 3 -> 0 (-100.0%, allowed 5.0%)",
        "  all-reduce count: 0 -> 1 (new, allowed 5.0%)",
    ]


def test_a_loop_counts_as_often_as_it_runs():
    def scanned(x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ c), c.sum()), x, None, length=5)

    def once(x):
        return jnp.tanh(x @ x), x.sum()

    x = shape(8, 8)
    one, five = budgets.traced_cost(once, x), budgets.traced_cost(scanned, x)
    assert five == {name: 5 * value for name, value in one.items()}
    assert one == {
        "flops": 2 * 8**3,
        "product_bytes": 3 * 256,
        "elementwise_bytes": 256 + 4,
        "reductions": 1,
    }


@pytest.mark.skipif(budgets.WRITES, reason="budgets are being written")
def test_a_program_without_a_budget_fails():
    with pytest.raises(AssertionError, match=r"flops: 0 -> 7 \(new.*\n.*`make budgets`"):
        budgets.check("traced", "a new program", {"flops": 7})
