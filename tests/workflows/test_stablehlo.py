"""The exported program: the pixels of `sample`, from a process that has jax alone."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import unclip_jax
from tests.toy import CONTEXT, DIM, random_params, root, with_prior_ar
from unclip_jax.checkpoint.bundle import CascadeNet, CascadeStep, Stage
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.decoder import TextEncoderConfig
from unclip_jax.models.pca_codec import codec_of, decode, with_codec
from unclip_jax.nn.transformer import TransformerConfig
from unclip_jax.sampling import codes
from unclip_jax.sampling.programs import example_noise
from unclip_jax.sampling.settings import SampleSettings, resolve
from unclip_jax.sampling.stage_sampler import StageSampler
from unclip_jax.workflows.stablehlo import export_program, save_program, stored_params

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
PROMPTS = ["a red heart", "the sun"]
NUM = 2

# Finds no package but the standard library, what the page asks for, and what jax itself requires.
ONLY_JAX = """
import sys

class OnlyJax:
    allowed = {"jax", "jaxlib", "numpy", "tokenizers", "flatbuffers"}
    allowed |= {"ml_dtypes", "opt_einsum", "scipy"}

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in self.allowed or top in sys.stdlib_module_names
        if known or top.startswith("_sysconfigdata"):
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [OnlyJax(finder) for finder in sys.meta_path]
"""

EXPORTED_PRIOR = """
import numpy as np
from jax import export
program = export.deserialize(bytearray(open("program", "rb").read()))
inputs = np.load("inputs.npz")
codes, z = program.call(dict(np.load("params.npz")), *(inputs[name] for name in inputs))
np.save("codes.npy", codes)
np.save("z.npy", z)
assert not {"flax", "unclip_jax"} & set(sys.modules)
"""


def assert_same_images(found, expected):
    """One device and another compilation: the rounding of float32 may move an 8-bit value."""
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 2
    assert (difference == 0).mean() >= 0.999


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    return save_program(toy, tmp_path_factory.mktemp("exported") / "program")


def test_the_documented_loader_runs_with_jax_alone(toy, folder):
    block = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert len([line for line in block.splitlines() if line and "import" not in line]) <= 10
    check = "assert not {'flax', 'unclip_jax'} & set(sys.modules)\nnp.save('images.npy', images)\n"
    script = ONLY_JAX + block + check
    run = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=folder.parent,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    expected = unclip_jax.sample(toy, PROMPTS, key=root())
    assert_same_images(np.load(folder.parent / "images.npy"), expected)


def test_the_description_matches_the_program(toy, folder):
    about = json.loads((folder / "program.json").read_text())
    assert about["platforms"] == ["cpu", "cuda", "tpu"]
    assert about["inputs"]["tokens"] == {"shape": ["n", CONTEXT], "dtype": "int32"}
    assert about["output"] == {"shape": ["n", 32, 32, 3], "dtype": "uint8"}
    assert about["tokens"]["eot_id"] == toy.tokenizer.eot_id
    assert about["settings"]["guidance"] == 3.0
    names = {path.name for path in folder.iterdir()}
    assert names == {*about["files"], "program.json"}
    with np.load(folder / "params.npz", allow_pickle=False) as params:
        assert {path.partition("/")[0] for path in params} == set(about["params"])
        assert not [path for path in params if "vision" in path]


def exported_images(model, num, **settings):
    """Exports for this machine and a fixed number of images, and calls it with seed 1."""
    plan = resolve(model, SampleSettings(**settings))
    params = stored_params(model, plan)
    count = num * len(PROMPTS)
    program = export_program(model, plan, params, num=count, platforms=["cpu"])
    context = program.in_avals[-4].shape[1]
    tokens = np.repeat(model.tokenizer.encode(PROMPTS, context).tokens, num, axis=0)
    index = np.repeat(np.arange(len(PROMPTS), dtype=np.uint32), num)
    draw = np.tile(np.arange(num, dtype=np.uint32), len(PROMPTS))
    program = export.deserialize(bytearray(program.serialize()))
    images = np.asarray(program.call(params, tokens, index, draw, np.uint32(1)))
    return images, unclip_jax.sample(model, PROMPTS, key=root(1), num=num, **settings)


def bits_of(model):
    """Stores all parameters as bfloat16, as a bundle loaded with its own dtype has them."""
    import ml_dtypes

    def stored(stage):
        params = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16), stage.params)
        return Stage(stage.spec, params, "bfloat16")

    held = dataclasses.replace(model, stages={n: stored(s) for n, s in model.stages.items()})
    wide = {
        name: Stage(s.spec, jax.tree.map(lambda leaf: leaf.astype(np.float32), s.params))
        for name, s in held.stages.items()
    }
    return held, dataclasses.replace(model, stages=wide)


def test_bfloat16_parameters_travel_as_bits(toy):
    held, wide = bits_of(toy)
    plan = resolve(held, SampleSettings(size=16))
    params = stored_params(held, plan)
    assert {array.dtype for array in params.values()} == {np.dtype(np.uint16)}
    program = export_program(held, plan, params, platforms=["cpu"])
    tokens = toy.tokenizer.encode(PROMPTS[:1]).tokens
    zero = np.zeros(1, np.uint32)
    images = np.asarray(program.call(params, tokens, zero, zero, np.uint32(0)))
    assert_same_images(images, unclip_jax.sample(wide, PROMPTS[:1], key=root(), size=16))


def own_text_model(toy, context):
    """The toy with stages that read token ids with a context of their own, and two upsamplers."""
    vocab, stack = toy.tokenizer.vocab_size, TransformerConfig(width=16, layers=1, heads=2)
    specs = {name: stage.spec for name, stage in toy.stages.items()}
    prior, decoder = specs["prior_diffusion"], specs["decoder"]
    specs["prior_diffusion"] = dataclasses.replace(
        prior,
        model=dataclasses.replace(prior.model, text="tokens", vocab_size=vocab, context=context),
    )
    encoder = TextEncoderConfig(vocab, context, stack)
    specs["decoder"] = dataclasses.replace(
        decoder,
        model=dataclasses.replace(
            decoder.model, text="transformer", text_encoder=encoder, context_dim=DIM
        ),
    )
    specs["upsampler_1024"] = dataclasses.replace(specs["upsampler_256"], stage="upsampler_1024")
    stages = {name: Stage(spec, random_params(spec, 5)) for name, spec in specs.items()}
    nets = (CascadeNet("upsampler_256", 3), CascadeNet("upsampler_1024"))
    return dataclasses.replace(toy, stages=stages, cascade=(CascadeStep(16, 32, nets),))


@pytest.mark.parametrize("context", [8, 20])  # shorter and longer than CLIP's
def test_own_token_contexts_two_nets_and_a_negative_caption(toy, context, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PROMPTS", ["a red heart", "a ! b ! c ! the sun is"])
    model = own_text_model(toy, context)
    images, expected = exported_images(model, NUM, negative="a green apple")
    assert_same_images(images, expected)


def test_an_ar_prior_that_reads_its_own_tokens(toy):
    model = with_prior_ar(toy)
    spec, stack = model.stage("prior_ar").spec, TransformerConfig(width=16, layers=1, heads=2)
    own = {"text": "tokens", "encoder": stack, "context": 20, "text_dim": 0}
    own["vocab_size"] = toy.tokenizer.vocab_size
    spec = dataclasses.replace(spec, model=dataclasses.replace(spec.model, **own))
    params = with_codec(random_params(spec, 3), codec_of(model.stage("prior_ar").params))
    stages = {**model.stages, "prior_ar": Stage(spec, params)}
    model = dataclasses.replace(model, stages=stages)
    images, expected = exported_images(model, NUM, prior="ar", size=16)
    assert_same_images(images, expected)


def test_exported_codes_are_those_drawn_here(toy, tmp_path):
    """The AR prior's part alone, in a process that has jax alone: its codes and what they mean."""
    model = with_prior_ar(toy)
    stage, text = model.stage("prior_ar"), unclip_jax.embed_text(toy, [*PROMPTS, ""])
    (net,) = StageSampler(model, "prior_ar").nets
    keys = np.asarray(
        jax.random.key_data(jax.vmap(lambda i: jax.random.fold_in(root(), i))(jnp.arange(2)))
    )

    def program(params, text_emb, text_states, text_mask, keys):
        both = TextFeatures(text_emb, text_states, text_mask)
        rows = np.array([0, 1, 2, 2])  # the captions, then the empty one that each is guided from
        cond = Cond(text=jax.tree.map(lambda leaf: leaf[rows], both))
        own = jax.random.wrap_key_data(keys, impl="threefry2x32")
        noise = example_noise(net.program, own)
        drawn = codes.sample_codes(net.program, unflatten_paths(params), cond, 2.0, noise)
        codec = codec_of(unflatten_paths(params))
        return drawn, decode(codec, stage.spec.model.codec, drawn)

    inputs = (text.text_emb, text.text_states, text.text_mask, keys)
    arguments = (flatten_paths(stage.params), *map(np.asarray, inputs))
    live = [np.asarray(value) for value in jax.jit(program)(*arguments)]
    exported = export.export(jax.jit(program), platforms=["cpu"])(*arguments)
    (tmp_path / "program").write_bytes(exported.serialize())
    np.savez(tmp_path / "params.npz", **arguments[0])
    np.savez(tmp_path / "inputs.npz", *arguments[1:])
    script = ONLY_JAX + EXPORTED_PRIOR
    called = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), live[0])
    z = np.load(tmp_path / "z.npy")
    np.testing.assert_allclose(z, live[1], atol=1e-5)
    text = jax.tree.map(lambda leaf: np.asarray(leaf)[:2], text)
    drawn = unclip_jax.run_stage(model, "prior_ar", Cond(text=text), key=root())
    np.testing.assert_allclose(z, drawn, atol=2e-5)


def test_caption_only_in_bfloat16(toy):
    images, expected = exported_images(toy, 1, prior="none", size=16, dtype="bfloat16")
    assert images.shape == expected.shape
    assert np.abs(images.astype(int) - expected).mean() < 2  # bfloat16 rounds at other places


def test_what_cannot_be_exported(toy, folder, tmp_path):
    with pytest.raises(UserError, match="platforms must be some of cpu, cuda, tpu, not 'rocm'"):
        save_program(toy, tmp_path / "out", platforms=["rocm"])
    with pytest.raises(UserError, match="num must be at least 1"):
        save_program(toy, tmp_path / "out", num=0)
    with pytest.raises(UserError, match="no tokenizer"):
        save_program(dataclasses.replace(toy, tokenizer=None), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="exists"):
        save_program(toy, folder)
    clip = toy.stage("clip")
    params = {**clip.params, "logit_scale": np.float32(1e6)}
    stages = {**toy.stages, "clip": Stage(clip.spec, params, "float16")}
    with pytest.raises(UserError, match="clip/logit_scale does not fit in float16"):
        save_program(dataclasses.replace(toy, stages=stages), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
