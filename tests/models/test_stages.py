"""Specs survive JSON, every stage initializes, every parameter names its axes."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tests import networks
from unclip_jax.cli import common
from unclip_jax.core.errors import UserError
from unclip_jax.core.renamed import RenamedWarning
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.stages import (
    PRIORS,
    ROWS,
    STAGES,
    StageSpec,
    abstract_boxed,
    abstract_params,
    init_variables,
    make_module,
    spec_from_dict,
    spec_to_dict,
    unboxed,
)
from unclip_jax.nn.layers import AXES

SPECS = {
    "clip": networks.clip_spec(),
    "clip scanned": networks.clip_spec(scan_layers=True),
    "prior": networks.prior_spec(),
    "prior tokens": networks.prior_spec(text="tokens"),
    "prior codes": networks.prior_ar_spec(),
    "decoder": networks.decoder_spec(null_image="learned"),
    "decoder text": networks.decoder_spec(text="transformer"),
    "decoder without text": networks.decoder_spec(text="none"),
    "upsampler": networks.upsampler_spec(),
    "dvae": networks.dvae_spec(),
    "dalle": networks.dalle_spec(),
}


@pytest.mark.parametrize("name", list(SPECS))
def test_specs_survive_json(name):
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(SPECS[name])))) == SPECS[name]


@pytest.mark.parametrize("name", list(SPECS))
def test_every_parameter_names_its_axes(name):
    def is_box(leaf):
        return isinstance(leaf, nn.Partitioned)

    for box in jax.tree.leaves(abstract_boxed(SPECS[name]), is_leaf=is_box):
        assert is_box(box) and len(box.names) == len(box.value.shape)
        assert box.value.dtype == jnp.float32
        assert all(axis is None or axis in AXES for axis in box.names)
        named = [axis for axis in box.names if axis]
        assert len(set(named)) == len(named) and (named or not box.names)


@pytest.mark.parametrize(
    ("name", "sampling", "words"),
    [
        ("decoder", SamplingConfig(num_candidates=2), "only a prior"),
        ("prior", SamplingConfig(steps=1001), "1001"),
        ("upsampler", SamplingConfig(step_list=(1000, 5)), "1000"),
    ],
)
def test_sampling_settings_that_do_not_suit_the_stage(name, sampling, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SPECS[name], sampling=sampling)


@pytest.mark.parametrize("name", ["prior tokens", "upsampler"])
def test_initialized_stages_run_on_their_dummy_inputs(name):
    spec = SPECS[name]
    module = make_module(spec)
    params = unboxed(jax.jit(lambda key: init_variables(spec, module, key))(networks.quick_key()))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, abstract_params(spec))
    inputs = spec.model.dummy_inputs(3)
    out = jax.eval_shape(lambda p: module.apply({"params": p}, *inputs), params)
    assert out.shape[:-1] == inputs[0].shape[:-1] and out.shape[0] == 3


def test_stage_numbers_never_change():
    """They are part of what a seed means."""
    assert {name: row.key_id for name, row in STAGES.items()} == {
        "clip": 0,
        "prior_diffusion": 1,
        "prior_ar": 2,
        "decoder": 3,
        "upsampler_256": 4,
        "upsampler_1024": 5,
        "super_res_first": 6,
        "super_res_last": 7,
        "dvae": 8,
        "dalle": 9,
    }


def test_rows_of_the_table_fit_each_other():
    assert [row.name for row in ROWS] == list(STAGES)
    assert [row.key_id for row in ROWS] == list(range(len(ROWS)))
    for row in ROWS:
        assert (row.choice is None) == (row.kind != "prior") == (not row.gives_embedding)
        assert row.follows is None or STAGES[row.follows].kind == "upsampler"
        assert row.reads is None or not STAGES[row.reads].needs_clip
    assert PRIORS == {"diffusion": "prior_diffusion", "ar": "prior_ar"}
    assert common.PRIORS == tuple(PRIORS)


def test_wrong_specs_are_refused():
    decoder = SPECS["decoder"]
    with pytest.raises(ValueError, match="stage='clip' cannot be a DecoderConfig"):
        StageSpec("clip", decoder.model)
    with pytest.raises(ValueError, match="does not suit diffusion.variance='fixed_small'"):
        StageSpec("decoder", decoder.model, DiffusionConfig())
    with pytest.raises(ValueError, match="needs diffusion settings"):
        StageSpec("decoder", decoder.model)
    with pytest.raises(UserError, match="stage='decodr' is not one of"):
        spec_from_dict({"stage": "decodr"})
    values = spec_to_dict(decoder)
    values["model"]["unet"]["chanels"] = 3
    with pytest.raises(UserError, match="unknown key model.unet.chanels; did you mean channels"):
        spec_from_dict(values)


def test_sampling_settings_are_read_under_their_old_names():
    """Bundles and runs of earlier versions say `clip` and `draws`."""
    values = spec_to_dict(SPECS["prior"]) | {"sampling": {"clip": 2.0, "draws": 3}}
    with pytest.warns(RenamedWarning, match=r"sampling\.(clip|draws) is now called"):
        spec = spec_from_dict(values)
    assert spec.sampling == SamplingConfig(x0_bound=2.0, num_candidates=3)


OPEN = [
    ("clip", {"text": {"vocab_size": None}}, ["text.vocab_size"]),
    ("prior", {"image_dim": None, "context": None}, ["image_dim", "context"]),
    ("prior", {"text_dim": None, "vocab_size": None}, ["text_dim"]),
    ("prior tokens", {"vocab_size": None, "text_dim": None}, ["vocab_size"]),
    ("prior codes", {"text_dim": None, "vocab_size": None}, ["text_dim"]),
    ("decoder", {"image_dim": None, "text_context": None}, ["image_dim", "text_context"]),
    ("decoder text", {"text_encoder": {"context": None}}, ["text_encoder.context"]),
    ("decoder text", {"text_dim": None, "text_context": None}, []),
    ("decoder without text", {"text_dim": None, "text_context": None}, []),
]


@pytest.mark.parametrize("value", [None, 0], ids=["none", "zero, as in older files"])
@pytest.mark.parametrize(("name", "changes", "fields"), OPEN)
def test_sizes_that_are_left_open_are_named_before_a_network_is_built(name, changes, fields, value):
    values = spec_to_dict(SPECS[name])
    for key, change in changes.items():
        if isinstance(change, dict):
            values["model"][key] |= dict.fromkeys(change, value)
        else:
            values["model"][key] = value
    spec = spec_from_dict(values)
    assert spec.open_fields == tuple(f"model.{field}" for field in fields)
    if fields:
        with pytest.raises(UserError, match=f"model.{fields[0]}.* not set"):
            make_module(spec)
    else:
        make_module(spec)


def test_the_scale_of_embeddings_may_be_left_open():
    spec = spec_from_dict(spec_to_dict(SPECS["prior"]) | {"embedding_norm": {"scale": None}})
    assert spec.open_fields == ("embedding_norm.scale",)
