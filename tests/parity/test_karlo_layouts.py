"""Every layout of the same weights gives the same parameters, and exports give them back."""

import json
import math
import warnings

import jax
import numpy as np
import pytest
import torch
from diffusers import PriorTransformer, UnCLIPPipeline, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from safetensors.torch import save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from tests.parity import karlo_layout
from tests.parity.karlo_models import (
    PROMPTS,
    TOKENIZER,
    Toy,
    make_components,
    save_components,
    save_vocabulary,
)
from unclip_jax.checkpoint import bundle
from unclip_jax.convert.export_diffusers import export_diffusers
from unclip_jax.convert.import_karlo import OriginalSizes
from unclip_jax.convert.import_weights import import_weights
from unclip_jax.convert.torch_files import open_tensors
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths

# Karlo's and OpenAI's files do not tell heads and groups: 64 channels a head, 32 groups.
TOY = Toy(5, dim=64, head=64, channels=64, groups=32, context_dim=20, prior_layers=2)


@pytest.fixture(scope="module")
def components():
    made = make_components(TOY)
    for name in ("text_encoder", "image_encoder"):  # these weights serve 1 head as well as others
        made[name].config.num_attention_heads = 1
    return made


@pytest.fixture(scope="module")
def source(components, tmp_path_factory):
    return save_components(components, tmp_path_factory.mktemp("karlo") / "source")


@pytest.fixture(scope="module")
def model(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return bundle.load(bundle.save(import_weights(source, name="toy"), folder / "toy"))


def assert_same(ours, other):
    assert ours.stages.keys() == other.stages.keys()
    for name, stage in ours.stages.items():
        expected, found = flatten_paths(stage.params), flatten_paths(other.stages[name].params)
        assert expected.keys() == found.keys()
        for path, leaf in expected.items():
            other_leaf = np.asarray(found[path]).astype(leaf.dtype)  # a default is float32
            np.testing.assert_array_equal(other_leaf, leaf, err_msg=f"{name} {path}")


def write_original(components, folder, dtype=torch.float32):
    """Karlo's files; ViT-L-14.pt without TorchScript, as a plain archive."""
    folder.mkdir()
    prior, sr = components["prior"], {}
    for name, prefix in (("first", "model_first_steps."), ("last", "model_last_step.")):
        state = karlo_layout.unet_state(components[f"super_res_{name}"], TOY.head)
        sr |= {prefix + key: value for key, value in state.items()}
    projection = components["text_proj"]
    for name, state in {
        "prior-ckpt-step=1.ckpt": karlo_layout.prior_state(prior, TOY.head),
        "decoder-ckpt-step=1.ckpt": karlo_layout.decoder_state(
            components["decoder"], projection, TOY.head
        ),
        "improved-sr-ckpt-step=1.ckpt": sr,
    }.items():
        torch.save({"state_dict": {k: v.to(dtype) for k, v in state.items()}}, folder / name)
    stats = prior.clip_mean.data.reshape(-1), prior.clip_std.data.reshape(-1)
    torch.save(stats, folder / "ViT-L-14_stats.th")
    clip = karlo_layout.clip_state(
        components["text_encoder"], components["image_encoder"], math.log(100.0)
    )
    torch.save(clip | {"input_resolution": torch.tensor(16)}, folder / "ViT-L-14.pt")
    save_vocabulary(folder)
    return folder


SIZES = OriginalSizes(TOY.decoder_size, 2 * TOY.decoder_size, TOY.head)


def test_original_files_give_the_same_tree(components, model, tmp_path):
    folder = write_original(components, tmp_path / "original")
    found = import_weights(folder, name="toy", sizes=SIZES)
    assert_same(model, found)
    for name, stage in found.stages.items():
        theirs = model.stages[name].spec
        assert stage.spec.diffusion == theirs.diffusion
        if name != "clip":
            assert stage.spec.model == theirs.model
    assert found.stage("prior_diffusion").spec.sampling.x0_bound == 10.0
    assert model.stage("prior_diffusion").spec.sampling.x0_bound == 1.5
    assert found.stage("clip").spec.model.resize == "squash"
    assert model.stage("clip").spec.model.resize == "center_crop"
    assert found.license == "CreativeML Open RAIL-M"
    assert set(found.provenance["source_files"]) == {p.name for p in folder.iterdir()}


class Holder(torch.nn.Module):
    """Parameters under dotted names, as a scripted module has them."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            *parents, leaf = name.split(".")
            place = self
            for parent in parents:
                if not hasattr(place, parent):
                    place.add_module(parent, torch.nn.Module())
                place = getattr(place, parent)
            place.register_buffer(leaf, value)

    def forward(self, x):
        return x


def test_openai_archive_is_torchscript(components, model, tmp_path):
    state = karlo_layout.clip_state(
        components["text_encoder"], components["image_encoder"], math.log(100.0)
    )
    holder = Holder(state | {"input_resolution": torch.tensor(16)})
    with warnings.catch_warnings():  # torch advises against what OpenAI's files are
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(holder), tmp_path / "ViT-L-14.pt")
    save_vocabulary(tmp_path)
    found = import_weights(tmp_path, name="clip")
    assert found.stage("clip").spec.model.activation == "quick_gelu"
    assert_same(only_clip(model), found)


class Evil(torch.nn.Module):
    """A module whose archive writes a file when torch loads it."""

    def __init__(self, target: str):
        super().__init__()
        self.target = target
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, torch.Tensor, bool]:
        return self.target, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]):
        self.target, self.weight, self.training = state
        torch.save(self.weight, self.target)


def test_an_archive_with_a_payload_writes_nothing(components, model, tmp_path):
    """It is refused; loaded by torch it would write a file with a name of its choice."""
    target = tmp_path / "owned"
    state = karlo_layout.clip_state(
        components["text_encoder"], components["image_encoder"], math.log(100.0)
    )
    holder = Holder(state | {"input_resolution": torch.tensor(16)})
    holder.evil = Evil(str(target))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(holder), tmp_path / "ViT-L-14.pt")
        save_vocabulary(tmp_path)
        with pytest.raises(UserError, match="ViT-L-14.pt: refused") as refusal:
            import_weights(tmp_path, name="clip")
        assert not target.exists()
        assert "weights_only" not in str(refusal.value)
        torch.jit.load(tmp_path / "ViT-L-14.pt")
    assert target.exists()  # the payload is one


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_what_we_read(tmp_path, zipped):
    base = torch.randn(4, 6, generator=torch.manual_seed(0))
    state = {
        "plain": base,
        "transposed": base.T,
        "strided": base[1:3, ::2],
        "scalar": torch.tensor(3),
        "bfloat16": base.bfloat16(),
        "half": torch.nn.Parameter(base.half()),
        "double": base.double(),
        "ints": torch.arange(4, dtype=torch.int32),
        "bools": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
        "expanded": torch.arange(3.0).expand(2, 3),
        **torch.nn.BatchNorm1d(3).state_dict(),
    }
    path = tmp_path / "x.pt"
    torch.save({"state_dict": state, "epoch": 1}, path, _use_new_zipfile_serialization=zipped)
    found = open_tensors(path)
    assert list(found.shapes) == list(state)
    for key, tensor in state.items():
        assert f"torch.{found.dtypes[key]}" == str(tensor.dtype)
        np.testing.assert_array_equal(
            found[key].astype(np.float64), tensor.detach().double().numpy(), strict=True
        )


def only_clip(model):
    return bundle.Bundle("clip", {"clip": model.stage("clip")})


def test_open_clip_safetensors(components, model, tmp_path):
    state = karlo_layout.clip_state(
        components["text_encoder"], components["image_encoder"], math.log(100.0)
    )
    save_file(state, tmp_path / "open_clip_model.safetensors")
    cfg = {"vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 8}}
    cfg = {"model_cfg": cfg, "preprocess_cfg": {"mean": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(cfg))
    save_vocabulary(tmp_path)
    found = import_weights(tmp_path / "open_clip_model.safetensors", name="clip")
    clip = found.stage("clip").spec.model
    assert (clip.vision.heads, clip.text.heads, clip.activation) == (4, 8, "gelu")
    assert clip.image_mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("options", [{"max_shard_size": "100KB"}, {"safe_serialization": False}])
def test_shards_and_pickles(components, model, tmp_path, options):
    parts = {k: v for k, v in components.items() if "encoder" not in k}
    save_components(parts, tmp_path, **options)
    for name in ("text_encoder", "image_encoder"):
        components[name].save_pretrained(tmp_path / name, max_shard_size="100KB")
    kind = "*.index.json" if "max_shard_size" in options else "*.bin"
    assert list((tmp_path / "decoder").glob(kind))
    assert_same(model, import_weights(tmp_path, name="toy"))


CLASSES = {
    "text_encoder": CLIPTextModelWithProjection,
    "image_encoder": CLIPVisionModelWithProjection,
    "prior": PriorTransformer,
    "text_proj": UnCLIPTextProjModel,
    "decoder": UNet2DConditionModel,
    "super_res_first": UNet2DModel,
    "super_res_last": UNet2DModel,
}


def test_export_loads_and_comes_back(components, model, tmp_path):
    saved = bundle.save(model, tmp_path / "bundle")
    out = tmp_path / "out"
    export_diffusers(saved, out)
    for name, kind in CLASSES.items():
        loaded, report = kind.from_pretrained(out / name, output_loading_info=True)
        assert not any(report.values()), report
        state = loaded.state_dict()
        for key, value in components[name].state_dict().items():
            assert torch.equal(state[key], value), key
    tokens = CLIPTokenizer.from_pretrained(out / "tokenizer")(
        PROMPTS, padding="max_length", max_length=TOY.context, truncation=True
    )
    assert tokens["input_ids"] == TOKENIZER.encode(PROMPTS, TOY.context).tokens.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = UnCLIPPipeline.from_pretrained(out)
    assert isinstance(pipeline.text_proj, UnCLIPTextProjModel)
    assert pipeline.prior_scheduler.config.clip_sample_range == 1.5
    again = import_weights(out, name="toy")
    assert_same(model, again)
    for name, stage in model.stages.items():
        assert again.stages[name].spec == stage.spec
    assert again.cascade == model.cascade
    assert again.sampling == model.sampling


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_survives(model, tmp_path, dtype):
    saved = bundle.save(model, tmp_path / "bundle", dtype=dtype)
    export_diffusers(saved, tmp_path / "out")
    again = import_weights(tmp_path / "out", name="toy")
    half = bundle.load(saved, params_dtype=None)
    assert {stage.dtype for stage in again.stages.values()} == {dtype}
    assert_same(half, again)
    leaf = jax.tree.leaves(bundle.load(saved, params_dtype=None).stages["decoder"].params)[0]
    assert str(leaf.dtype) == dtype
