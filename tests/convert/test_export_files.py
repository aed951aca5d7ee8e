"""The small files of an export, against what transformers and diffusers publish."""

import json

import pytest

from tests.karlo_golden import unpack
from unclip_jax.convert import export_diffusers as export
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.text.tokenizer import load_clip_folder


def clip(resize):
    vision = VisionConfig(image_size=224, patch_size=32, width=64, layers=1, heads=1)
    text = TextConfig(vocab_size=530, width=64, layers=1, heads=1)
    return ClipConfig(embed_dim=64, vision=vision, text=text, resize=resize)


@pytest.mark.parametrize("resize", ["center_crop", "squash"])
def test_the_preprocessor_is_openai_s(tmp_path, resize):
    """openai/clip-vit-base-patch32's preprocessor_config.json: bicubic, of 0..1, normalized."""
    export._write_preprocessor(tmp_path, clip(resize))
    crops = resize == "center_crop"
    assert json.loads((tmp_path / "preprocessor_config.json").read_text()) == {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 224} if crops else {"height": 224, "width": 224},
        "resample": 3,
        "do_center_crop": crops,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }


def test_the_vocabulary_comes_back_as_it_was_given(tmp_path):
    source = unpack(tmp_path / "karlo") / "tokenizer"
    out = tmp_path / "tokenizer"
    export._write_tokenizer(out, load_clip_folder(source, 9))
    assert (out / "merges.txt").read_text() == (source / "merges.txt").read_text()
    found, given = (json.loads((path / "vocab.json").read_text()) for path in (out, source))
    assert found == given
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",  # id 0, as Karlo's
    }
    assert json.loads((out / "special_tokens_map.json").read_text()) == special
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 9} | special
    assert json.loads((out / "tokenizer_config.json").read_text()) == config


VARIATION = {
    "decoder": "UNet2DConditionModel",
    "text_proj": "UnCLIPTextProjModel",
    "text_encoder": "CLIPTextModelWithProjection",
    "tokenizer": "CLIPTokenizer",
    "super_res_first": "UNet2DModel",
    "super_res_last": "UNet2DModel",
    "decoder_scheduler": "UnCLIPScheduler",
    "super_res_scheduler": "UnCLIPScheduler",
    "image_encoder": "CLIPVisionModelWithProjection",
    "feature_extractor": "CLIPImageProcessor",
}
PRIOR = {"prior": "PriorTransformer", "prior_scheduler": "UnCLIPScheduler"}


@pytest.mark.parametrize("has_prior", [True, False])
def test_the_index_names_the_pipeline_s_parts(tmp_path, has_prior):
    """Karlo's published model_index.json names the first ten; a pipeline takes no others."""
    for name in (*VARIATION, *(PRIOR if has_prior else ())):
        (tmp_path / name).mkdir()
    export._write_index(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    image_parts = ("image_encoder", "feature_extractor")
    text_to_image = PRIOR | {k: v for k, v in VARIATION.items() if k not in image_parts}
    kind = "UnCLIPPipeline" if has_prior else "UnCLIPImageVariationPipeline"
    assert index["_class_name"] == kind
    found = {key: value[1] for key, value in index.items() if not key.startswith("_")}
    assert found == (text_to_image if has_prior else VARIATION)
