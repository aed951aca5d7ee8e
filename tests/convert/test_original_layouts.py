"""The tables of original layouts against the published converters' rules, and fused projections.

Rules: diffusers' scripts/convert_kakao_brain_unclip_to_diffusers.py and transformers'
convert_clip_original_pytorch_to_hf.py, read backwards.
"""

import re

import numpy as np
import pytest

from unclip_jax.convert import clip_names, karlo_names
from unclip_jax.convert.name_tables import module, raw, to_ours, to_theirs
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.unet import UNetConfig
from unclip_jax.nn.transformer import TransformerConfig

PRIOR = {
    "positional_embedding": "positional_embedding",
    "prd_embedding": "prd_emb",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "proj_in": "clip_img_proj",
    "embedding_proj": "text_emb_proj",
    "encoder_hidden_states_proj": "text_enc_proj",
    "norm_out": "final_ln",
    "proj_to_clip_embeddings": "out_proj",
    "attn1.to_q attn1.to_k attn1.to_v": "attn.c_qkv",
    "attn1.to_out.0": "attn.c_proj",
    "norm1": "ln_1",
    "norm3": "ln_2",
    "ff.net.0.proj": "mlp.c_fc",
    "ff.net.2": "mlp.c_proj",
}
PROJECTIONS = {
    "learned_classifier_free_guidance_embeddings": "cf_param",
    "embedding_proj": "text_feat_proj",
    "clip_image_embeddings_project_to_time_embeddings": "clip_emb",
    "clip_extra_context_tokens_proj": "clip_tok_proj",
    "encoder_hidden_states_proj": "text_seq_proj.0",
    "text_encoder_hidden_states_norm": "text_seq_proj.1",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    "group_norm": "norm",
    "to_q to_k to_v": "qkv",
    "add_k_proj add_v_proj": "encoder_kv",
    "to_out.0": "proj_out",
}


def originals(place, cfg):
    """Where diffusers' block of a U-Net stands in Karlo's numbering, as the converter counts."""
    stride, levels = cfg.res_blocks + 1, len(cfg.channel_mult)
    if match := re.fullmatch(
        r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)", place
    ):
        block, number = int(match[1]), int(match[3])
        if match[2] == "downsamplers":
            return f"input_blocks.{(block + 1) * stride}.0"
        return f"input_blocks.{1 + block * stride + number}.{int(match[2] == 'attentions')}"
    if match := re.fullmatch(r"up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)", place):
        block, number = int(match[1]), int(match[3])
        if match[2] == "upsamplers":  # behind the attention of its last block, if it has one
            last = 2 if cfg.attends(levels - 1 - block) else 1
            return f"output_blocks.{(block + 1) * stride - 1}.{last}"
        return f"output_blocks.{block * stride + number}.{int(match[2] == 'attentions')}"
    middle = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2 if cfg.mid_attention else 1}
    return f"middle_block.{middle[place.removeprefix('mid_block.')]}"


def unet_name(names, cfg):
    if len(names) == 1 and names[0] in UNET:
        return UNET[names[0]]
    place = re.match(r"(?:down|up)_blocks\.\d+\.\w+\.\d+|mid_block\.\w+\.\d+", names[0])[0]
    parts = " ".join(name.removeprefix(f"{place}.") for name in names)
    return f"{originals(place, cfg)}.{BLOCK[parts]}"


@pytest.mark.parametrize("mid_attention", [True, False])
@pytest.mark.parametrize("attended", [(), (16, 4), (8, 4)])
def test_blocks_of_a_unet_have_the_converter_s_numbers(attended, mid_attention):
    cfg = UNetConfig(
        16,
        64,
        channel_mult=(1, 2, 3),
        res_blocks=2,
        attention_resolutions=attended,
        mid_attention=mid_attention,
    )
    theirs, karlo = karlo_names.diffusers_unet_table(cfg), karlo_names.karlo_unet_table(cfg)
    assert theirs.keys() == karlo.keys()
    for path, source in theirs.items():
        level = re.match(r"(?:up|down)_(\d)_attn", path)
        if (level and not cfg.attends(int(level[1]))) or ("mid_attn" in path and not mid_attention):
            continue  # an entry of what the net does not have
        assert karlo[path].names == (unet_name(source.names, cfg),), path
        is_projection = "attn" in path and not path.endswith("norm")
        assert karlo[path].ones == int(is_projection), path  # Karlo's are convolutions


def test_the_decoder_s_projections_have_the_converter_s_names():
    cfg = UNetConfig(16, 64, channel_mult=(1, 2), attention_resolutions=(8,))
    theirs = karlo_names.diffusers_decoder_table(cfg)
    karlo = karlo_names.karlo_decoder_table(cfg)
    for path, source in theirs.items():
        (name, *_) = source.names
        component, _, name = name.partition("/")
        names = tuple(n.partition("/")[2] for n in source.names)
        made = PROJECTIONS[name] if component == "text_proj" else None
        if component == "decoder":
            made = unet_name(names, cfg) if "attn_" not in path or "_1_" in path else None
        if made is not None:
            assert karlo[path].names == (f"model.{made}",), path
    for prefix in ("model_first_steps.", "model_last_step."):
        table = karlo_names.karlo_super_res_table(cfg, prefix)
        assert table["unet/conv_in"].names == (f"{prefix}input_blocks.0.0",)


def test_the_prior_has_the_converter_s_names():
    cfg = PriorDiffusionConfig(TransformerConfig(16, layers=2, heads=2), image_dim=8, text_dim=8)
    theirs, karlo = karlo_names.diffusers_prior_table(cfg), karlo_names.karlo_prior_table(cfg)
    assert theirs.keys() == karlo.keys()
    for path, source in theirs.items():
        match = re.match(r"transformer_blocks\.(\d)\.", source.names[0])
        block = f"transformer.resblocks.{match[1]}." if match else ""
        parts = " ".join(name.removeprefix(match[0] if match else "") for name in source.names)
        if path in ("clip_mean", "clip_std"):  # a file of (mean, std)
            assert source.names == (path,)
            assert karlo[path].names == (f"statistics.{int(path == 'clip_std')}",)
        else:
            assert karlo[path].names == (f"model.{block}{PRIOR[parts]}",), path


OPENAI = {
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_projection": "text_projection",
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding": "visual.conv1",
    "vision_model.embeddings.position_embedding": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "visual_projection": "visual.proj",
    "self_attn.q_proj self_attn.k_proj self_attn.v_proj": "attn.in_proj",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def test_clip_has_the_converter_s_names():
    cfg = ClipConfig(16, VisionConfig(8, 4, 16, 2, 4), TextConfig(99, 16, 2, 2))
    theirs, openai = clip_names.hf_clip_table(cfg), clip_names.openai_clip_table(cfg)
    for path, source in theirs.items():
        match = re.match(r"(text|vision)_model\.encoder\.layers\.(\d)\.", source.names[0])
        prefix = "visual." if match and match[1] == "vision" else ""
        block = f"{prefix}transformer.resblocks.{match[2]}." if match else ""
        parts = " ".join(name.removeprefix(match[0] if match else "") for name in source.names)
        leaves = [p for p in openai if p == path or p.rpartition("/")[0] == path]
        assert [openai[leaf].names for leaf in leaves] == [(f"{block}{OPENAI[parts]}",)], path
    for tower in ("text", "vision"):  # x @ proj: OpenAI's projections are not transposed
        assert openai[f"{tower}/proj/kernel"].raw
    assert openai["text/transformer/blocks_0/attn/qkv"].heads == 2
    assert openai["vision/transformer/blocks_0/attn/qkv"].heads == 4
    assert np.isclose(np.exp(theirs["logit_scale"].missing), 100.0)


@pytest.mark.parametrize("leaf", ["kernel", "bias"])
def test_fused_projections_of_all_layouts_are_one(leaf):
    """Ours is head by head: q, k, v of the first head, then of the second."""
    heads, width, head = 2, 6, 3  # not as many heads as parts
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, width, 5) if leaf == "kernel" else (3, width))
    by_head = [part[h * head : (h + 1) * head] for h in range(heads) for part in (q, k, v)]
    ours = np.concatenate(by_head).T
    layouts = [
        ([q, k, v], module("q", "k", "v", heads=heads)),  # diffusers, transformers
        ([np.concatenate([q, k, v])], module("in_proj", heads=heads, parts=3)),  # OpenAI
        ([np.concatenate(by_head)], module("c_qkv")),  # Karlo
    ]
    if leaf == "kernel":  # a convolution of one position
        layouts.append(([np.concatenate(by_head)[..., None]], module("qkv", ones=1)))
    for pieces, source in layouts:
        np.testing.assert_array_equal(to_ours(pieces, leaf, ours.shape, source), ours)
        for made, piece in zip(to_theirs(ours, leaf, source), pieces, strict=True):
            np.testing.assert_array_equal(made, piece)


def test_other_arrays_lie_as_jax_has_them():
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(1, 3, 4, 5)), rng.normal(size=(7, 3, 2, 3))  # NCHW, OIHW
    ours = to_ours([kernel], "kernel", (2, 3, 3, 7), module("conv"))
    for o in range(7):  # one output position, term by term
        expected = (image[0, :, :2, :3] * kernel[o]).sum()
        found = (image.transpose(0, 2, 3, 1)[0, :2, :3] * ours[..., o]).sum()
        np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(to_theirs(ours, "kernel", module("conv"))[0], kernel)
    table = rng.normal(size=(1, 9, 4))
    found = to_ours([table], "embedding", (9, 4), raw("positional_embedding", ones=1))
    np.testing.assert_array_equal(found, table[0])
    assert to_theirs(found, "embedding", raw("x", ones=1))[0].shape == (1, 9, 4)
    weight = rng.normal(size=(5, 4))
    np.testing.assert_array_equal(to_ours([weight], "kernel", (4, 5), module("fc")), weight.T)
    np.testing.assert_array_equal(
        to_ours([weight], "embedding", (5, 4), module("token_embedding")), weight
    )
