"""`unclip plan --compile` through libtpu itself, on the smallest stage there is."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBTPU = Path(sys.prefix) / "libtpu"  # a folder of its own: JAX looks for TPUs where it finds it
PLAN = ("plan", "--compile", "--topology", "v5p:2x2x1", "--json")
SMALL = (
    "--config=configs/paper/upsampler_256.py:smoke",
    "--config.train.batch_size=256",
    "--config.train.mesh.data=1",
    "--config.train.mesh.fsdp=4",
    "--config.model.unet.channel_mult=(1,)",
    "--config.train.blur_prob=0.0",
    "--config.model.unet.remat=block",
)

# The gradient of one product with a sharded parameter, compiled as jit_step has it and as XLA would
# of itself; prints how many permutations of shards are in each program.
ROUNDS = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from unclip_jax.core.chips import parse_topology
from unclip_jax.plan.compile import topology_devices
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.sharding import batch_sharding, make_mesh, replicated
from unclip_jax.train.step import jit_step
mesh = make_mesh(MeshConfig(data=1, fsdp=-1), topology_devices(parse_topology("v5p:2x2x2")))
rows, whole = NamedSharding(mesh, P("fsdp", None)), replicated(mesh)
w = jax.ShapeDtypeStruct((2048, 8192), jnp.float32, sharding=rows)
x = jax.ShapeDtypeStruct((32768, 2048), jnp.float32, sharding=batch_sharding(mesh))
def step(w, x):
    loss, gradient = jax.value_and_grad(lambda w: ((x @ w) ** 2).sum())(w)
    return w - gradient, loss
for jitted in (jit_step(step, rows, mesh), jax.jit(step, out_shardings=(rows, whole))):
    text = jitted.lower(w, x).compile().as_text()
    print(text.count("collective-permute-start("))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    if not LIBTPU.is_dir() and importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    return kept | cache | {"PYTHONPATH": str(LIBTPU), "JAX_PLATFORMS": "cpu"}


def plan(environment, *more):
    command = [sys.executable, "-m", "unclip_jax", *PLAN, *SMALL, *more]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_step_is_compiled_and_its_result_kept(environment):
    code, out, err = plan(environment)
    assert code == 0, err
    made = json.loads(out)
    assert made["devices"] == made["chips"] == 4
    # The donated state is the larger part of the arguments, and lies where it lay.
    assert made["argument_bytes"] >= made["state_bytes_per_chip"] > 0
    assert made["aliased_bytes"] >= made["state_bytes_per_chip"]
    held = made["argument_bytes"] + made["temporary_bytes"]
    held += made["output_bytes"] - made["aliased_bytes"]
    assert made["hbm_bytes_per_chip"] == held < made["hbm_limit_bytes"]
    # Fully sharded: parameters are gathered, gradients summed; padding is no arithmetic.
    sent = sum(one["bytes"] for one in made["collectives"].values())
    assert sent > 4 * made["params"]
    share = made["hardware_flops_per_step"] / 4
    assert 0.6 * share < made["compiled_flops"] < 1.1 * share
    assert made["step_seconds"] > made["compute_seconds"] and 0 < made["mfu"] < made["hfu"] < 1
    kept = list(Path(environment["XDG_CACHE_HOME"]).rglob("plan/*.json"))
    assert len(kept) == 1
    assert json.loads(plan(environment)[1]) == made  # compile_seconds too: it was not done again


def test_a_topology_that_libtpu_does_not_know(environment):
    five = ("--config.train.batch_size=20", "--config.train.mesh.fsdp=5")
    code, out, err = plan(environment, "--topology", "v5p:5x1x1", *five)
    assert (code, out) == (2, "")
    assert "libtpu does not know topology v5p:5x1x1" in err.splitlines()[-1]


def test_a_step_gathers_a_sharded_parameter_and_then_multiplies(environment):
    command = [sys.executable, "-c", ROUNDS]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, default = map(int, done.stdout.split())
    assert ours == 0 < default
