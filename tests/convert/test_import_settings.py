"""What importers make of shapes and settings: specs, against the published architectures.

Parameters are not read: only which files and which tables they would be read by counts.
"""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.karlo_golden import unpack
from unclip_jax.checkpoint.bundle import CascadeNet, CascadeStep, SamplingDefaults, Stage
from unclip_jax.convert import import_clip, import_karlo
from unclip_jax.convert.import_clip import nested
from unclip_jax.convert.import_weights import import_weights
from unclip_jax.convert.name_tables import ImportedStage
from unclip_jax.convert.torch_files import TensorFile
from unclip_jax.core.errors import UserError
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig

KEYS = Path(__file__).parents[1] / "golden" / "karlo_keys.json.gz"
MEAN, STD = 2.0, 3.0


def published(name):
    listed = json.loads(gzip.decompress(KEYS.read_bytes()))
    return {key: tuple(shape) for key, shape in listed[f"original/{name}"].items()}


def openai_clip(width, layers, v_width, v_layers, patch, size, embed, *, scalars=True):
    """What says of OpenAI's state dict how large the model is (openai/CLIP, clip/model.py)."""
    shapes = {
        "positional_embedding": (77, width),
        "text_projection": (width, embed),
        "token_embedding.weight": (49408, width),
        "visual.conv1.weight": (v_width, 3, patch, patch),
        "visual.positional_embedding": ((size // patch) ** 2 + 1, v_width),
    }
    for prefix, side, count in (("", width, layers), ("visual.", v_width, v_layers)):
        for i in range(count):
            block = f"{prefix}transformer.resblocks.{i}."
            shapes |= {f"{block}ln_1.weight": (side,), f"{block}mlp.c_fc.weight": (4 * side, side)}
    return shapes | ({"input_resolution": ()} if scalars else {})


VIT_L_14 = (768, 12, 1024, 24, 14, 224, 768)
FILES = {
    "prior-ckpt-step=1.ckpt": published("prior"),
    "decoder-ckpt-step=1.ckpt": published("decoder"),
    "improved-sr-ckpt-step=1.ckpt": published("sr_first") | published("sr_last"),
    "ViT-L-14.pt": openai_clip(*VIT_L_14),
    "ViT-L-14_stats.th": {"0": (768,), "1": (768,)},
}


@pytest.fixture
def read(monkeypatch):
    """Importers keep specs alone; returns by what (table, tensors) each stage is to be read."""
    calls = {}

    def told(spec, table, tensors, ignored=()):
        calls[spec.stage] = table, tensors
        return ImportedStage(Stage(spec, {}, tensors.dtype), tensors.files)

    for module in (import_karlo, import_clip):
        monkeypatch.setattr(module, "import_stage", told)
    return calls


@pytest.fixture
def original(read, monkeypatch, tmp_path):
    """A folder of Karlo's own files, which hold shapes alone."""

    def opened(path):
        shapes = FILES[path.name]
        values = {"0": MEAN, "1": STD}
        return TensorFile(
            [path],
            shapes,
            dict.fromkeys(shapes, "float32"),
            lambda key: np.full(shapes[key], values.get(key, 0.0)),
        )

    for module in (import_karlo, import_clip):
        monkeypatch.setattr(module, "open_tensors", opened)
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def test_published_shapes_are_the_published_karlo(read, original):
    stages = import_karlo.import_original_karlo(original)
    specs = {name: found.stage.spec for name, found in stages.items()}
    assert specs["clip"].model == ClipConfig(
        embed_dim=768,
        vision=VisionConfig(image_size=224, patch_size=14, width=1024, layers=24, heads=16),
        text=TextConfig(vocab_size=49408, width=768, layers=12, heads=12, context=77),
        activation="quick_gelu",
        resize="squash",
    )
    prior, stack = specs["prior_diffusion"].model, specs["prior_diffusion"].model.transformer
    assert (stack.width, stack.layers, stack.heads) == (2048, 20, 32)
    assert (prior.image_dim, prior.text_dim, prior.context) == (768, 768, 77)
    assert (prior.mask_text, specs["prior_diffusion"].norm.kind) == (True, "standardize")
    decoder = specs["decoder"].model
    assert (decoder.image_dim, decoder.text_dim, decoder.context_dim) == (768, 768, 1536)
    assert (decoder.text_context, decoder.null_image, decoder.mask_text) == (77, "learned", True)
    # 4 tokens of 1536 channels (the paper's number; UnCLIPTextProjModel's default).
    assert (decoder.image_tokens, specs["decoder"].norm.kind) == (4, "none")
    nets = {"decoder": decoder.unet}
    nets |= {name: specs[name].model.unet for name in import_karlo.SUPER_RES}
    for name, unet in nets.items():
        is_decoder = name == "decoder"
        assert unet.image_size == (64 if is_decoder else 256)
        assert (unet.channels, unet.head_channels, unet.norm_groups) == (320, 64, 32)
        assert (unet.channel_mult, unet.res_blocks) == ((1, 2, 3, 4), 3)
        assert (unet.in_channels, unet.out_channels) == ((3, 6) if is_decoder else (6, 3))
        assert unet.attention_resolutions == ((32, 16, 8) if is_decoder else ())
        assert (unet.mid_attention, unet.scale_shift) == (is_decoder, is_decoder)
    assert {specs[name].model.low_res_size for name in import_karlo.SUPER_RES} == {64}


def test_karlos_own_files_are_sampled_as_karlo_does(read, original):
    stages = import_karlo.import_original_karlo(original)
    specs = {name: found.stage.spec for name, found in stages.items()}
    steps = {name: spec.sampling.steps for name, spec in specs.items() if spec.sampling}
    assert steps == {
        "prior_diffusion": 25,
        "decoder": 50,
        "super_res_first": 7,
        "super_res_last": 7,
    }
    prior, decoder = specs["prior_diffusion"], specs["decoder"]
    assert (prior.sampling.guidance, prior.sampling.x0_bound, prior.diffusion.prediction) == (
        4.0,
        10.0,
        "x0",
    )
    assert (decoder.sampling.guidance, decoder.sampling.x0_bound) == (8.0, 1.0)
    assert (decoder.diffusion.prediction, decoder.diffusion.variance) == ("eps", "learned_range")
    clamped = import_karlo.import_original_karlo(original, clamp=5.0)
    assert clamped["prior_diffusion"].stage.spec.sampling.x0_bound == 5.0
    assert clamped["decoder"].stage.spec.sampling.x0_bound == 1.0


def test_each_network_is_read_from_its_own_part(read, original):
    import_karlo.import_original_karlo(original)
    for name, prefix in (
        ("super_res_first", "model_first_steps."),
        ("super_res_last", "model_last_step."),
    ):
        table, tensors = read[name]
        assert all(key.startswith(prefix) for key in tensors.shapes)
        assert table["unet/conv_in"].names == (f"{prefix}input_blocks.0.0",)
    table, tensors = read["prior_diffusion"]
    for leaf, value in (("clip_mean", MEAN), ("clip_std", STD)):  # (mean, std) of the file
        assert (tensors[table[leaf].names[0]] == value).all()
    (original / "decoder-ckpt-step=1.ckpt").unlink()
    with pytest.raises(UserError, match="0 files decoder-ckpt"):
        import_karlo.import_original_karlo(original)


@pytest.mark.parametrize(
    ("sizes", "config", "heads", "activation"),
    [
        ((512, 12, 768, 12, 32, 224, 512), None, (8, 12), "quick_gelu"),  # OpenAI's ViT-B/32
        (VIT_L_14, None, (12, 16), "quick_gelu"),
        ((1024, 24, 1280, 32, 14, 224, 1024), {"head_width": 80}, (16, 16), "gelu"),  # ViT-H-14
        ((1024, 24, 1280, 32, 14, 224, 1024), {}, (16, 16), "gelu"),
        ((1024, 24, 1280, 32, 14, 224, 640), {"other": 1}, (16, 20), "gelu"),  # 64 is the default
    ],
)
def test_heads_and_sizes_of_openai_s_layout(sizes, config, heads, activation):
    width, layers, v_width, v_layers, patch, size, embed = sizes
    shapes = openai_clip(*sizes, scalars=config is None)
    tensors = TensorFile([Path("x")], shapes, {}, np.zeros)
    model = {"model_cfg": {"vision_cfg": config, "text_cfg": {}}} if config else {}
    cfg = import_clip._openai_config(tensors, model, "center_crop")
    assert cfg == ClipConfig(
        embed_dim=embed,
        vision=VisionConfig(size, patch, v_width, v_layers, heads[1]),
        text=TextConfig(49408, width, layers, heads[0], 77),
        activation=activation,
        resize="center_crop",
    )


def test_open_clip_s_config_is_heeded():
    tensors = TensorFile([Path("x")], openai_clip(*VIT_L_14, scalars=False), {}, np.zeros)
    model = {"quick_gelu": True, "text_cfg": {"heads": 6}}
    preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    cfg = import_clip._openai_config(tensors, config, "center_crop")
    assert (cfg.activation, cfg.text.heads) == ("quick_gelu", 6)
    assert (cfg.image_mean, cfg.image_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_older_clip_configs_override_by_their_second_form():
    config = {"text_config": {"a": 1, "b": 1}, "text_config_dict": {"a": 2}, "vision_config": None}
    assert nested(config, "text") == {"a": 2, "b": 1}
    assert nested(config, "vision") == {}


def test_a_diffusers_folder_is_sampled_as_its_pipeline_does(read, tmp_path):
    source = unpack(tmp_path / "karlo")
    made = import_weights(source, name="x")
    specs = {name: stage.spec for name, stage in made.stages.items()}
    steps = {name: spec.sampling.steps for name, spec in specs.items() if spec.sampling}
    assert steps == {  # UnCLIPPipeline's arguments
        "prior_diffusion": 25,
        "decoder": 25,
        "super_res_first": 7,
        "super_res_last": 7,
    }
    assert [specs[name].sampling.guidance for name in ("prior_diffusion", "decoder")] == [4.0, 8.0]
    assert [specs[name].sampling.x0_bound for name in ("prior_diffusion", "decoder")] == [1.5, 1.0]
    assert [specs[name].norm.kind for name in ("prior_diffusion", "decoder")] == [
        "standardize",
        "none",
    ]
    assert (specs["decoder"].model.text_context, specs["decoder"].diffusion.loss) == (9, "hybrid")
    nets = (CascadeNet("super_res_first"), CascadeNet("super_res_last", 1))
    assert made.cascade == (CascadeStep(8, 16, nets),)
    assert made.sampling == SamplingDefaults("diffusion", None, round_low_res=False)
    assert made.license == "CreativeML Open RAIL-M"
    files = made.provenance["source_files"]
    assert set(files) == {
        str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()
    }
    for name, digest in files.items():
        assert digest == hashlib.sha256((source / name).read_bytes()).hexdigest()
    clamped = import_weights(source, name="x", clamp=10.0, license="mine")
    assert clamped.stage("prior_diffusion").spec.sampling.x0_bound == 10.0
    assert clamped.stage("decoder").spec.sampling.x0_bound == 1.0
    assert clamped.license == "mine"
