"""Every config builds, and every parameter of every model, up to full size, has a sharding rule."""

import math
import re
from pathlib import Path

import jax
import pytest

from unclip_jax.cli.config_files import read_config
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.presets import karlo_specs, paper_specs
from unclip_jax.models.stages import STAGES, StageSpec, abstract_boxed, unboxed
from unclip_jax.plan.estimate import planned_program, step_work
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.program import Program
from unclip_jax.train.resolve import make_spec, read_settings, resolve_model
from unclip_jax.train.sharding import make_mesh, param_shardings

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = 600


def variants_of(path: Path) -> list[str]:
    """Lists what a config file's own check lets through: all it has, the full one first."""
    text = path.read_text(encoding="utf-8")
    checks = (
        re.findall(r"check_variant\(variant, (.*)\)", text) if "def get_config(" in text else []
    )
    return ["", *re.findall(r'"(\w+)"', checks[0])] if checks else []


CONFIGS = [
    f"{path.relative_to(ROOT)}" + (f":{variant}" if variant else "")
    for path in sorted((ROOT / "configs").rglob("*.py"))
    for variant in variants_of(path)
]


def clip_beside(name: str) -> str:
    """Names the CLIP's config of the same family and size."""
    path, _, variant = name.partition(":")
    return str(Path(path).with_name("clip.py")) + (":smoke" if variant.startswith("smoke") else "")


def spec_of(name: str) -> StageSpec:
    """Builds the spec of a config as `unclip train` does, beside the CLIP of the same family."""
    config = read_config(str(ROOT / name), [])
    clip = None
    if STAGES[config["stage"]].needs_clip:
        config["clip"] = "some_bundle"
        clip = spec_of(clip_beside(name)).model
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
    assert {"clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256"} <= stages


def test_variants_are_found():
    found = {"clip.py:sam", "clip.py:eval_clip", "decoder.py:smoke_glide", "decoder.py:tune"}
    assert {f"configs/emoji/{name}" for name in found} <= set(CONFIGS)
    assert len([name for name in CONFIGS if name.endswith(":smoke")]) >= 11


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds_and_every_parameter_has_a_rule(name, mesh):
    spec = spec_of(name)
    assert spec.stage == Path(name.partition(":")[0]).stem
    check_rules(spec, mesh)


def planned(name: str) -> Program:
    config = read_config(str(ROOT / name), [])
    config["clip"] = ""
    needs = STAGES[config["stage"]].needs_clip
    clip = read_config(str(ROOT / clip_beside(name)), []) if needs else None
    return planned_program(config, clip)[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_every_config_can_be_traced(name):
    """Nearly every parameter takes part in a product, forwards and twice backwards."""
    program = planned(name)
    is_clip = program.spec.stage == "clip"
    rows = min(program.settings.train.batch_size, 64) if is_clip else 1
    tables = re.compile(r"embed|codec_|clip_(mean|std)|null|bos|query")
    flat = flatten_paths(program.state.params)
    products = sum(math.prod(x.shape) for k, x in flat.items() if not tables.search(k))
    assert step_work(program, rows, "none").flops > 6 * rows * 0.98 * products


def test_sharpness_aware_clip_does_the_work_of_its_passes():
    """A forward pass is 1, a gradient 3. SAM: gradient, forward; gradient again, then its own."""
    plain, sam = (step_work(planned(f"configs/emoji/clip.py{name}"), 64) for name in ("", ":sam"))
    assert sam.flops / plain.flops == pytest.approx((3 + 1 + 3 + 3) / 3, rel=5e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unknown_key_is_refused(name):
    with pytest.raises(UserError, match="fooo"):
        read_config(str(ROOT / name), ["--config.train.fooo=1"])


def test_the_papers_upsampler_visits_glides_levels():
    """10, 10, 3, 2 and 2 in the fifths from the clean end; 999 gives way to 997 (released code)."""
    steps = tuple(read_config("configs/paper/upsampler_256.py", [])["sampling"]["step_list"])
    assert (len(steps), steps[:7]) == (27, (997, 800, 799, 600, 599, 500, 400))
    fifths = [sum(t // 200 == part for t in steps) for part in range(5)]
    assert fifths == [10, 10, 3, 2, 2]
    for part in (0, 1):  # evenly from end to end
        own = [t - 200 * part for t in steps[::-1] if t // 200 == part]
        assert own == [round(k * 199 / 9) for k in range(10)]


@pytest.mark.parametrize("family", [karlo_specs, paper_specs])
def test_full_size_models_have_rules_and_split_what_is_large(family, mesh):
    for spec in family().values():
        check_rules(spec, mesh)
