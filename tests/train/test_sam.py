"""SAM against the algorithm written out, in float64; groups, devices and what excludes it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import Toy, as_double, double_precision, largest_difference, on_mesh, to_double
from unclip_jax.core.prng import root_key
from unclip_jax.models.clip import clip_loss
from unclip_jax.models.stages import abstract_boxed
from unclip_jax.train.config import MeshConfig, TrainConfig
from unclip_jax.train.sharding import BatchSharding, make_mesh, param_shardings
from unclip_jax.train.step import accumulate, batch_keys
from unclip_jax.train.task import StepConstants
from unclip_jax.train.tasks.clip import make_clip_task

EXACT = 1e-9  # float64, sums in another order
RHO = 0.3


def norm(tree):
    return np.sqrt(sum(np.square(np.asarray(x)).sum() for x in jax.tree.leaves(tree)))


def ascended(gradient, params, rows):
    """w + rho g / |g| with the gradient of the loss of these rows alone."""
    g = gradient(params, rows)
    return jax.tree.map(lambda w, x: np.asarray(w) + RHO / norm(g) * np.asarray(x), params, g)


@pytest.fixture
def double(monkeypatch):
    plain = Toy("clip")
    params, batch = as_double(plain.params()), as_double(plain.batch())
    with double_precision(monkeypatch):
        yield Toy("clip", jnp.float64), params, batch


def found_gradient(toy, params, batch, group):
    task = make_clip_task(toy.module, RHO, group)
    keys = batch_keys(root_key(0), 8)
    return jax.jit(lambda p, b: accumulate(task, p, StepConstants(), b, keys, 1)[0])(params, batch)


def test_one_group_is_sam(double):
    toy, params, batch = double
    outputs = lambda p, b: toy.module.apply({"params": p}, to_double(b["image"]), b["tokens"])  # noqa: E731

    @jax.jit
    @jax.grad
    def gradient(p, b):
        out = outputs(p, b)
        return clip_loss(out.image_emb, out.text_emb, out.logit_scale)

    expected = gradient(ascended(gradient, params, batch), batch)
    assert largest_difference(found_gradient(toy, params, batch, 8), expected) < EXACT
    assert largest_difference(gradient(params, batch), expected) > 1e-3


def test_groups_are_perturbed_by_themselves_and_share_the_loss(double):
    """By differentiating the loss of all rows in the perturbed parameters of each group."""
    toy, params, batch = double
    outputs = lambda p, b: toy.module.apply({"params": p}, to_double(b["image"]), b["tokens"])  # noqa: E731

    def loss(p, b):
        out = outputs(p, b)
        return clip_loss(out.image_emb, out.text_emb, out.logit_scale)

    gradient = jax.jit(jax.grad(loss))
    groups = [{k: jnp.asarray(v[j::2]) for k, v in batch.items()} for j in range(2)]
    moved = [ascended(gradient, params, rows) for rows in groups]

    def whole(shifted):
        outs = [outputs(p, rows) for p, rows in zip(shifted, groups, strict=True)]
        image, text, scale = (
            [getattr(o, k) for o in outs] for k in ("image_emb", "text_emb", "logit_scale")
        )
        return clip_loss(jnp.concatenate(image), jnp.concatenate(text), (scale[0] + scale[1]) / 2)

    parts = jax.jit(jax.grad(whole))(moved)
    expected = jax.tree.map(lambda a, b: a + b, *parts)
    assert largest_difference(found_gradient(toy, params, batch, 4), expected) < EXACT


def test_eight_devices_give_the_gradient_of_one(double):
    toy, params, batch = double
    results = []
    for cfg, devices in ((MeshConfig(), 1), (MeshConfig(data=2, fsdp=2, tensor=2), 8)):
        mesh = make_mesh(cfg, jax.devices()[:devices])
        with on_mesh(mesh):
            placed = jax.device_put(params, param_shardings(abstract_boxed(toy.spec), mesh))
            rows = BatchSharding(mesh, 8).to_global(batch)
            results.append(jax.device_get(found_gradient(toy, placed, rows, 4)))
    assert largest_difference(*results) < EXACT


def test_what_excludes_it_is_said():
    plain = TrainConfig(steps=1, batch_size=8, sam_rho=0.1, sam_group=4)
    for changes, words in (
        ({"accumulation": 2}, "accumulation must be 1"),
        ({"sam_group": 3}, "sam_group=3 must divide"),
        ({"sam_rho": -0.1}, "sam_rho=-0.1 must be at least"),
    ):
        with pytest.raises(ValueError, match=words):
            dataclasses.replace(plain, **changes)


def test_the_temperature_can_leave_its_ceiling():
    """Pairs that have nothing to do with each other want a lower one, where SAM looks too."""
    toy = Toy("clip", sam_rho=0.1, sam_group=4)
    step, state = toy.step(), toy.state()
    ceiling = np.float32(np.log(100))
    state = state.replace(params={**state.params, "logit_scale": jnp.asarray(ceiling)})
    scales = []
    for seed in range(5):
        state, _ = step(state, StepConstants(), toy.batch(seed))
        scales.append(float(state.params["logit_scale"]))
    # Adam's first steps are of about the learning rate, 3e-3, each.
    assert scales[-1] < ceiling - 5e-3
    assert max(scales) <= ceiling
