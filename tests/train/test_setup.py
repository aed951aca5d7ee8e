"""Setting a run up: its first parameters, and the shapes that a plan expects of it."""

from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training import Toy, on_mesh
from unclip_jax.checkpoint.store import CheckpointStore
from unclip_jax.cli.train import read_config
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.stages import STAGES, init_variables, unboxed
from unclip_jax.train import experiment, setup
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.program import make_program
from unclip_jax.train.resolve import read_settings
from unclip_jax.train.sharding import make_mesh

ROOT = Path(__file__).resolve().parents[2]


class Empty(CheckpointStore):
    """A store without a checkpoint."""

    def __init__(self):
        pass

    def restore_newest(self, abstract):
        return None


@pytest.mark.parametrize("seed", [0, 5])
def test_parameters_are_drawn_with_the_key_of_seed_and_stage(seed):
    toy = Toy("prior_diffusion")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    path = f"{ROOT}/configs/emoji/prior_diffusion.py:smoke"
    settings = read_settings(read_config(path, [f"--config.seed={seed}"]))
    program = make_program(settings, toy.spec, toy.clip.cfg)
    with on_mesh(mesh):
        start = setup.restore_or_init(program, Empty(), mesh, print)
        fold = jax.random.fold_in
        key = fold(fold(jax.random.key(seed), STAGES["prior_diffusion"].key_id), 2**31 - 2)
        init = jax.jit(lambda key: unboxed(init_variables(toy.spec, toy.module, key)))
        expected = flatten_paths(init(key))
    assert start.data is None and int(start.state.step) == 0
    for path, leaf in flatten_paths(start.state.params).items():
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-5, atol=1e-7, err_msg=path)


class Ready(Exception):
    """Ends a run before its first step."""


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.parametrize(
    "name", ["clip", "prior_diffusion", "prior_ar", "decoder:smoke_glide", "upsampler_256"]
)
def test_a_run_has_the_shapes_and_shardings_of_its_program(name, tmp_path):
    """State, batches and constants; `unclip plan` counts and compiles the step at these."""

    def compare(run):
        program, rows = run.program, run.program.settings.train.batch_size
        assert shapes(program.state) == shapes(run.state)
        assert shapes(program.constants) == shapes(run.constants)
        assert shapes(program.batch(rows)) == shapes(next(run.batches))
        expected = program.state_shardings(run.mesh), program.constant_shardings(run.mesh)
        arrays, shardings = jax.tree.leaves((run.state, run.constants)), jax.tree.leaves(expected)
        for array, sharding in zip(arrays, shardings, strict=True):
            assert array.sharding.is_equivalent_to(sharding, array.ndim)
        raise Ready

    stage, _, variant = name.partition(":")
    config = read_config(f"{ROOT}/configs/emoji/{stage}.py:{variant or 'smoke'}", [])
    with pytest.raises(Ready):
        experiment.train(config, tmp_path, make_hooks=compare)
    overview = (tmp_path / "parameters.txt").read_text()
    assert "Sharding" in overview and "Total: " in overview
