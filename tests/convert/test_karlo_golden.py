"""A recorded Karlo folder through the command line, against what diffusers computed from it."""

import numpy as np
import pytest

import unclip_jax
from tests.karlo_golden import recorded, unpack
from unclip_jax.cli.main import main

RTOL = 1e-4


@pytest.fixture(scope="module")
def golden():
    return recorded()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    source = unpack(tmp_path_factory.mktemp("karlo"))
    out = tmp_path_factory.mktemp("bundle") / "toy"
    with pytest.raises(SystemExit) as ended:
        main(["import", str(source), "--out", str(out)])
    assert ended.value.code == 0
    return unclip_jax.load(out)


def assert_close(ours, theirs):
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    assert error < RTOL, f"relative error {error:.2e}"


@pytest.fixture(scope="module")
def text(model, golden):
    return unclip_jax.embed_text(model, [str(prompt) for prompt in golden["prompts"]])


def test_text(text, golden):
    assert_close(text.text_emb, golden["text_emb"])
    assert_close(text.text_states, golden["text_states"])


def test_prior(model, text, golden):
    found = unclip_jax.predict(model, "prior", golden["prior_x"], golden["t"], text=text)
    assert_close(found, golden["prior"])


def test_decoder(model, text, golden):
    x_t, t, z = golden["decoder_x"], golden["t"], golden["z"]
    found = unclip_jax.predict(model, "decoder", x_t, t, image_emb=z, text=text)
    assert_close(found, golden["decoder"])


def test_super_resolution(model, golden):
    x_t, t, low_res = golden["sr_x"], golden["t"], golden["low_res"]
    found = unclip_jax.predict(model, "super_res_last", x_t, t, low_res=low_res)
    assert_close(found, golden["super_res_last"])


def test_bundle_holds_karlo_s_settings(model):
    assert {stage.dtype for stage in model.stages.values()} == {"float16"}
    assert model.license == "CreativeML Open RAIL-M"
    assert model.provenance["imported_from"] == "karlo-diffusers"
    assert "decoder/diffusion_pytorch_model.safetensors" in model.provenance["source_files"]
    prior = model.stage("prior_diffusion").spec
    assert (prior.sampling.guidance, prior.sampling.steps, prior.sampling.x0_bound) == (
        4.0,
        25,
        1.5,
    )
    decoder = model.stage("decoder").spec
    assert (decoder.sampling.guidance, decoder.sampling.steps) == (8.0, 25)
    assert not model.sampling.round_low_res
    (step,) = model.cascade
    assert [(net.stage, net.steps) for net in step.nets] == [
        ("super_res_first", None),
        ("super_res_last", 1),
    ]
