"""Every key and shape of the published checkpoints is consumed and produced, by shapes alone."""

import dataclasses
import functools
import gzip
import json
from pathlib import Path

import pytest

from unclip_jax.convert import clip_names, karlo_names
from unclip_jax.convert.karlo_specs import karlo_specs
from unclip_jax.convert.name_tables import their_shapes

KEYS = Path(__file__).parents[1] / "golden" / "karlo_keys.json.gz"


@functools.cache
def published(name):
    """Key -> shape of one component; the lists were made with each library's own modules."""
    listed = json.loads(gzip.decompress(KEYS.read_bytes()))
    return {key: tuple(shape) for key, shape in listed[name].items()}


SPECS = karlo_specs()
CLIP = SPECS["clip"].model
PRIOR = SPECS["prior_diffusion"].model
DECODER = SPECS["decoder"].model.unet
SR = SPECS["super_res_first"].model.unet
SUPER_RES = {
    "diffusers/sr_first": karlo_names.diffusers_super_res_table(SR),
    "diffusers/sr_last": karlo_names.diffusers_super_res_table(SR),
    "original/sr_first": karlo_names.karlo_super_res_table(SR, "model_first_steps."),
    "original/sr_last": karlo_names.karlo_super_res_table(SR, "model_last_step."),
}


def test_prior():
    made = their_shapes(SPECS["prior_diffusion"], karlo_names.diffusers_prior_table(PRIOR))
    assert made == published("diffusers/prior")
    made = their_shapes(SPECS["prior_diffusion"], karlo_names.karlo_prior_table(PRIOR))
    assert [made.pop(f"statistics.{i}") for i in (0, 1)] == [(768,)] * 2  # a file of their own
    assert made == published("original/prior")


def test_decoder():
    made = their_shapes(SPECS["decoder"], karlo_names.diffusers_decoder_table(DECODER))
    unet = {f"decoder/{key}": shape for key, shape in published("diffusers/decoder").items()}
    rest = {f"text_proj/{key}": shape for key, shape in published("diffusers/text_proj").items()}
    assert made == unet | rest
    made = their_shapes(SPECS["decoder"], karlo_names.karlo_decoder_table(DECODER))
    assert made == published("original/decoder")


@pytest.mark.parametrize("name", SUPER_RES)
def test_super_resolution(name):
    assert their_shapes(SPECS["super_res_first"], SUPER_RES[name]) == published(name)


def test_clip():
    made = their_shapes(SPECS["clip"], clip_names.hf_clip_table(CLIP))
    assert made.pop("logit_scale") == ()
    towers = published("diffusers/text_encoder") | published("diffusers/image_encoder")
    assert made == towers


def test_clip_without_image_tower():
    spec = dataclasses.replace(SPECS["clip"], model=dataclasses.replace(CLIP, vision=None))
    made = their_shapes(spec, clip_names.hf_clip_table(spec.model))
    assert made.pop("logit_scale") == ()
    assert made == published("diffusers/text_encoder")
