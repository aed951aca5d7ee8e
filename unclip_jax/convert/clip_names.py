"""Names and layouts of CLIP's parameters: Hugging Face, and OpenAI with OpenCLIP."""

import math

from unclip_jax.convert.name_tables import Table, blocks, module, raw, under
from unclip_jax.models.clip import ClipConfig

LOGIT_SCALE = math.log(100.0)
"""The default for sources without a temperature: its upper bound, which OpenAI's CLIP reached."""

OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives store among the parameters."""


def hf_clip_table(cfg: ClipConfig) -> Table:
    """Returns the names of CLIPModel and of the two WithProjection models."""
    text = {
        "token_embed": module("embeddings.token_embedding"),
        "pos_embed": module("embeddings.position_embedding"),
        "ln_final": module("final_layer_norm"),
        **blocks("transformer", "encoder.layers.{}", cfg.text.layers, _hf_block(cfg.text.heads)),
    }
    table = under("text/", "text_model.", text)
    table["text/proj"] = module("text_projection")
    table["logit_scale"] = raw("logit_scale", missing=LOGIT_SCALE)
    if cfg.vision is not None:
        block = _hf_block(cfg.vision.heads)
        vision = {
            "class_embed": raw("embeddings.class_embedding"),
            "patch_embed": module("embeddings.patch_embedding"),
            "pos_embed": module("embeddings.position_embedding"),
            "ln_pre": module("pre_layrnorm"),
            "ln_post": module("post_layernorm"),
            **blocks("transformer", "encoder.layers.{}", cfg.vision.layers, block),
        }
        table |= under("vision/", "vision_model.", vision)
        table["vision/proj"] = module("visual_projection")
    return table


def openai_clip_table(cfg: ClipConfig) -> Table:
    """Returns the names of OpenAI's and OpenCLIP's state dict."""
    stack = "transformer.resblocks.{}"
    text = {
        "token_embed": module("token_embedding"),
        "pos_embed/embedding": raw("positional_embedding"),
        "ln_final": module("ln_final"),
        "proj/kernel": raw("text_projection"),
        **blocks("transformer", stack, cfg.text.layers, _openai_block(cfg.text.heads)),
    }
    vision = {
        "class_embed": raw("class_embedding"),
        "patch_embed": module("conv1"),
        "pos_embed/embedding": raw("positional_embedding"),
        "ln_pre": module("ln_pre"),
        "ln_post": module("ln_post"),
        "proj/kernel": raw("proj"),
        **blocks("transformer", stack, cfg.vision.layers, _openai_block(cfg.vision.heads)),
    }
    table = under("text/", "", text) | under("vision/", "visual.", vision)
    return table | {"logit_scale": raw("logit_scale")}


def _hf_block(heads: int) -> Table:
    qkv = [f"self_attn.{part}_proj" for part in "qkv"]
    return {
        "ln_1": module("layer_norm1"),
        "attn/qkv": module(*qkv, heads=heads),
        "attn/out": module("self_attn.out_proj"),
        "ln_2": module("layer_norm2"),
        "mlp/fc": module("mlp.fc1"),
        "mlp/proj": module("mlp.fc2"),
    }


def _openai_block(heads: int) -> Table:
    return {
        "ln_1": module("ln_1"),
        "attn/qkv": module("attn.in_proj", heads=heads, parts=3, join="_"),
        "attn/out": module("attn.out_proj"),
        "ln_2": module("ln_2"),
        "mlp/fc": module("mlp.c_fc"),
        "mlp/proj": module("mlp.c_proj"),
    }
