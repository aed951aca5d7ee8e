"""CLIPModel folders of Hugging Face, in and out."""

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

import unclip_jax
from tests.parity.karlo_models import PROMPTS, TOYS, redraw, save_vocabulary, text_config
from tests.parity.karlo_models import vision_config as vision
from unclip_jax.checkpoint import bundle
from unclip_jax.convert.export_diffusers import export_diffusers
from unclip_jax.convert.import_weights import import_weights
from unclip_jax.core.trees import flatten_paths


@pytest.mark.parametrize("toy", [TOYS[0], TOYS[2]], ids=["quick_gelu", "gelu"])
def test_clip_model(toy, tmp_path, agree):
    config = CLIPConfig(
        text_config=text_config(toy).to_dict(),
        vision_config=vision(toy).to_dict(),
        projection_dim=20,
    )
    theirs = redraw(CLIPModel(config), toy.seed)
    theirs.save_pretrained(tmp_path / "source")
    save_vocabulary(tmp_path / "source")
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size=16, image_mean=mean, image_std=std
    )
    processor.save_pretrained(tmp_path / "source")
    made = import_weights(tmp_path / "source", name="clip")
    model = unclip_jax.load(bundle.save(made, tmp_path / "bundle"))
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 16, 3)).astype(np.uint8)
    images = images[:, 4:20]  # square, so that nothing is resized
    text = unclip_jax.embed_text(model, PROMPTS)
    out = theirs(
        input_ids=torch.from_numpy(np.array(text.clip_tokens)).long(),
        pixel_values=processor(list(images), return_tensors="pt")["pixel_values"],
    )
    unit = [
        x / np.linalg.norm(x, axis=-1, keepdims=True)
        for x in (unclip_jax.embed_image(model, images), text.text_emb)
    ]
    agree("CLIPModel image embedding", unit[0], out.image_embeds, 1e-4)
    agree("CLIPModel text embedding", unit[1], out.text_embeds, 1e-4)
    found = unclip_jax.classify(model, images, PROMPTS)
    agree("CLIPModel probabilities", found, out.logits_per_image.softmax(-1), 1e-3)

    export_diffusers(tmp_path / "bundle", tmp_path / "out")
    loaded = CLIPModel.from_pretrained(tmp_path / "out").state_dict()
    for key, value in theirs.state_dict().items():
        assert torch.equal(loaded[key], value), key
    again = import_weights(tmp_path / "out", name="clip").stage("clip")
    assert again.spec == model.stage("clip").spec
    params = flatten_paths(again.params)
    for path, leaf in flatten_paths(model.stage("clip").params).items():
        np.testing.assert_array_equal(np.asarray(params[path]), leaf)
