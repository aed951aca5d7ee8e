"""Every config builds, and every parameter of every model, up to full size, has a sharding rule."""

import math
from pathlib import Path

import jax
import pytest

from unclip_jax.cli.train import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.models.presets import karlo_specs, paper_specs
from unclip_jax.models.stages import StageSpec, abstract_boxed, unboxed
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.resolve import NEEDS_CLIP, make_spec, read_settings, resolve_model
from unclip_jax.train.sharding import make_mesh, param_shardings

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = 600


def has_get_config(path: Path) -> bool:
    return "def get_config(" in path.read_text(encoding="utf-8")


CONFIGS = [
    f"{path.relative_to(ROOT)}{variant}"
    for path in sorted((ROOT / "configs").rglob("*.py"))
    if has_get_config(path)
    for variant in ("", ":smoke")
]


def spec_of(name: str) -> StageSpec:
    """Builds the spec of a config as `unclip train` does, beside the CLIP of the same family."""
    path, _, variant = name.partition(":")
    config = read_config(str(ROOT / path) + (f":{variant}" if variant else ""), [])
    clip = None
    if config["stage"] in NEEDS_CLIP:
        config["clip"] = "some_bundle"
        beside = str(Path(path).with_name("clip.py")) + (f":{variant}" if variant else "")
        clip = spec_of(beside).model
    read_settings(config)
    return make_spec(resolve_model(config, clip, VOCABULARY))


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


def check_rules(spec, mesh):
    boxed = abstract_boxed(spec)
    shardings = jax.tree.leaves(param_shardings(boxed, mesh))  # a missing rule raises
    params = jax.tree.leaves(unboxed(boxed))
    assert len(shardings) == len(params) > 0
    for leaf, sharding in zip(params, shardings, strict=True):
        local = sharding.shard_shape(leaf.shape)
        assert math.prod(leaf.shape) < 2**20 or math.prod(local) < math.prod(leaf.shape)


def test_there_are_configs_of_the_emoji_family():
    stages = {Path(name).stem for name in CONFIGS if name.startswith("configs/emoji/")}
    assert {"clip", "prior_diffusion", "decoder", "upsampler_256"} <= stages


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds_and_every_parameter_has_a_rule(name, mesh):
    spec = spec_of(name)
    assert spec.stage == Path(name.partition(":")[0]).stem
    check_rules(spec, mesh)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unknown_key_is_refused(name):
    with pytest.raises(UserError, match="fooo"):
        read_config(str(ROOT / name), ["--config.train.fooo=1"])


@pytest.mark.parametrize("family", [karlo_specs, paper_specs])
def test_full_size_models_have_rules_and_split_what_is_large(family, mesh):
    for spec in family().values():
        check_rules(spec, mesh)
