"""Every config builds, and every parameter of every model, up to full size, has a sharding rule."""

import dataclasses
import functools
import inspect
import math
import operator
import re
import types
import typing
from pathlib import Path

import jax
import pytest

from tests.shipped_configs import CONFIGS, ROOT, clip_beside, spec_of
from unclip_jax.cli.config_files import read_config
from unclip_jax.configs import common
from unclip_jax.convert.karlo_specs import karlo_specs
from unclip_jax.core.config import to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths
from unclip_jax.models.stages import STAGES, abstract_boxed, unboxed
from unclip_jax.plan.estimate import planned_program, step_work
from unclip_jax.train.config import MeshConfig
from unclip_jax.train.program import Program
from unclip_jax.train.sections import section_classes
from unclip_jax.train.sharding import make_mesh, param_shardings

BASELINES = {"glide": "decoder"}  # a config of a stage by another name
FULL = [name for name in CONFIGS if ":" not in name]
# A student has the network of its stage, and one of them the step of all (train/test_distill.py).
STUDENT = "configs/emoji/upsampler_256.py:distill"
NETWORKS = [name for name in CONFIGS if "distill" not in name or name == STUDENT]


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


def dataclasses_in(cls):
    """Yields a config's dataclass and those of its nested sections."""
    yield cls
    for hint in typing.get_type_hints(cls).values():
        for kind in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(kind):
                yield from dataclasses_in(kind)


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
    assert {"glide", "dvae", "dalle"} <= stages


def test_variants_are_found():
    found = {"clip.py:sam", "clip.py:eval_clip", "decoder.py:smoke_glide", "decoder.py:tune"}
    assert {f"configs/emoji/{name}" for name in found} <= set(CONFIGS)
    assert len([name for name in CONFIGS if name.endswith(":smoke")]) >= 11


@pytest.mark.parametrize("name", NETWORKS)
def test_config_builds_and_every_parameter_has_a_rule(name, mesh):
    spec = spec_of(name)
    stem = Path(name.partition(":")[0]).stem
    assert spec.stage == BASELINES.get(stem, stem)
    check_rules(spec, mesh)


def planned(name: str) -> Program:
    config = read_config(str(ROOT / name), [])
    config["clip"] = ""
    needs = STAGES[config["stage"]].needs_clip
    clip = read_config(str(ROOT / clip_beside(name)), []) if needs else None
    return planned_program(config, clip)[0]


@pytest.mark.parametrize("name", NETWORKS)
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


@pytest.mark.parametrize("name", FULL)
def test_a_misspelled_variant_is_refused(name):
    with pytest.raises(UserError, match="unknown variant 'smok'; known: .*smoke"):
        read_config(f"{ROOT / name}:smok", [])


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


def test_karlos_models_have_rules_and_split_what_is_large(mesh):
    for spec in karlo_specs().values():
        check_rules(spec, mesh)


NO_SECTION = {
    "model.encoder": "the CLIP's states are read as they are; another config file adds an encoder",
    "model.text_encoder": "captions are CLIP's states; another config file adds an encoder",
}


def leaves_of(cls, section, path):
    """Yields (dotted key, type, value) of every field of a dataclass and of those in it."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = f"{path}.{field.name}"
        assert field.name in section, f"{key} cannot be set by a flag"
        value, kinds = section[field.name], kinds_of(hints[field.name])
        nested = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if nested is None:
            yield key, kinds[0], value
        elif value is None:
            assert key in NO_SECTION
        else:
            yield from leaves_of(nested, value, key)


def kinds_of(hint):
    """Returns the types of a union but None, else the type alone."""
    is_union = isinstance(hint, types.UnionType)
    return [
        kind for kind in (typing.get_args(hint) if is_union else (hint,)) if kind is not type(None)
    ]


def another(kind, value):
    """Returns another value of a field's type."""
    kind = typing.get_origin(kind) or kind
    if isinstance(value, bool):
        return not value
    if kind is tuple:
        return 2 * value if value else (3,)
    return "x" if isinstance(value, str) else kind(3) if value is None else value + 1


@pytest.mark.parametrize("name", FULL)
def test_every_field_of_every_dataclass_can_be_set_by_a_flag(name):
    """All fields at once, each to another value of its type."""
    loaded = read_config(str(ROOT / name), [])
    wanted = {
        key: another(kind, value)
        for section, cls in section_classes(loaded["stage"]).items()
        for key, kind, value in leaves_of(cls, loaded[section], section)
    }
    assert len(wanted) > 70
    found = read_config(str(ROOT / name), [f"--config.{k}={v}" for k, v in wanted.items()])
    for key, value in wanted.items():
        *parents, last = key.split(".")
        assert functools.reduce(operator.getitem, parents, found)[last] == value, key


@pytest.mark.parametrize("name", FULL)
def test_what_a_config_does_not_name_has_the_default_of_its_dataclass(name):
    """A default is written once: an untouched field of `base` is the dataclass's."""
    stage = read_config(str(ROOT / name), [])["stage"]
    for section, cls in section_classes(stage).items():
        made = common.base(stage)[section].to_dict()
        for field in dataclasses.fields(cls):
            default = field.default
            if section == "model" or default is dataclasses.MISSING:
                assert field.name not in made
            else:
                nested = dataclasses.is_dataclass(default)
                assert made[field.name] == (to_dict(default) if nested else default)


CLASSES = {
    cls
    for stage in STAGES
    for section in section_classes(stage).values()
    for cls in dataclasses_in(section)
}


@pytest.mark.parametrize("cls", sorted(CLASSES, key=lambda c: c.__name__), ids=lambda c: c.__name__)
def test_every_field_has_a_sentence_in_its_class(cls):
    """The page of config fields is made of these."""
    section = inspect.getdoc(cls).partition("Attributes:\n")[2]
    entries = dict(re.findall(r"^    (\w+): ((?:.+\n?)(?:^     .+\n?)*)", section, re.M))
    assert set(entries) >= {field.name for field in dataclasses.fields(cls)}
    for field in dataclasses.fields(cls):
        assert len(entries[field.name].split()) >= 2, field.name
