"""Karlo's pipelines of diffusers at toy widths with random weights, and their files.

Every weight is redrawn, so that zero-initialised layers count.
"""

import dataclasses
import json
import re

import torch
from diffusers import PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from unclip_jax.text.tokenizer import train_tokenizer

PROMPTS = ["a red heart", "a blue car on the green grass"]
TOKENIZER = train_tokenizer([*PROMPTS, "the sun", "a dog face"] * 3, 530, 77)


@dataclasses.dataclass(frozen=True)
class Toy:
    """The sizes of one toy pipeline; `head` is the channels of a head everywhere.

    context + 4 must be no level's number of pixels: there diffusers takes the mask of the context
    for one of all keys, and fails.
    """

    seed: int
    dim: int = 24
    context: int = 9
    head: int = 8
    clip_layers: int = 1
    prior_heads: int = 2
    prior_layers: int = 1
    channels: int = 16
    mult: tuple[int, ...] = (1, 2)
    blocks: int = 1
    groups: int = 8
    decoder_size: int = 8
    context_dim: int = 20
    sr_mult: tuple[int, ...] = (1, 2)
    sr_blocks: int = 1
    activation: str = "quick_gelu"


TOYS = [
    Toy(0),
    Toy(1, dim=16, context=7, head=16, prior_heads=3, mult=(1, 3), context_dim=28, sr_mult=(1, 3)),
    Toy(
        2,
        context=11,
        head=4,
        clip_layers=3,
        prior_layers=2,
        channels=8,
        mult=(1, 2, 4),
        blocks=2,
        groups=4,
        sr_blocks=2,
        activation="gelu",
    ),
]


def redraw(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if re.search(r"(norm|layrnorm|layer_norm)\w*\.weight$|clip_std", name):
                p.copy_(1 + 0.2 * torch.randn(p.shape, generator=generator))
            elif "logit_scale" not in name:
                fan_in = p[0].numel() if p.ndim > 1 and "clip_mean" not in name else 100
                p.copy_(torch.randn(p.shape, generator=generator) * min(1.0, fan_in**-0.5))
    return module.eval()


def text_config(toy):
    return CLIPTextConfig(
        vocab_size=TOKENIZER.vocab_size,
        hidden_size=toy.dim,
        intermediate_size=3 * toy.dim,
        projection_dim=toy.dim,
        num_hidden_layers=toy.clip_layers,
        num_attention_heads=toy.dim // 8,
        max_position_embeddings=toy.context,
        hidden_act=toy.activation,
        bos_token_id=TOKENIZER.sot_id,
        eos_token_id=TOKENIZER.eot_id,
        pad_token_id=0,
    )


def vision_config(toy):
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=80,
        projection_dim=toy.dim,
        num_hidden_layers=toy.clip_layers + 1,
        num_attention_heads=4,
        image_size=16,
        patch_size=4,
        hidden_act=toy.activation,
    )


def make_decoder(toy):
    levels = len(toy.mult)
    return UNet2DConditionModel(
        sample_size=toy.decoder_size,
        in_channels=3,
        out_channels=6,
        block_out_channels=tuple(toy.channels * m for m in toy.mult),
        layers_per_block=toy.blocks,
        down_block_types=("ResnetDownsampleBlock2D",)
        + ("SimpleCrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("SimpleCrossAttnUpBlock2D",) * (levels - 1) + ("ResnetUpsampleBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        norm_num_groups=toy.groups,
        cross_attention_dim=toy.context_dim,
        attention_head_dim=toy.head,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )


def make_super_res(toy):
    levels = len(toy.sr_mult)
    return UNet2DModel(
        sample_size=2 * toy.decoder_size,
        in_channels=6,
        out_channels=3,
        block_out_channels=tuple(toy.channels * m for m in toy.sr_mult),
        layers_per_block=toy.sr_blocks,
        down_block_types=("ResnetDownsampleBlock2D",) * levels,
        up_block_types=("ResnetUpsampleBlock2D",) * levels,
        norm_num_groups=toy.groups,
        add_attention=False,
    )


def scheduler(variance, prediction, bound):
    return UnCLIPScheduler(
        variance_type=variance,
        prediction_type=prediction,
        num_train_timesteps=1000,
        clip_sample_range=bound,
    )


def make_components(toy):
    """Returns every component by its folder's name; bounds of |x0| that matter at this width."""
    prior = PriorTransformer(
        num_attention_heads=toy.prior_heads,
        attention_head_dim=toy.head,
        num_layers=toy.prior_layers,
        embedding_dim=toy.dim,
        num_embeddings=toy.context,
        additional_embeddings=4,
    )
    projection = UnCLIPTextProjModel(
        clip_embeddings_dim=toy.dim,
        time_embed_dim=4 * toy.channels,
        cross_attention_dim=toy.context_dim,
    )
    networks = {
        "text_encoder": CLIPTextModelWithProjection(text_config(toy)),
        "image_encoder": CLIPVisionModelWithProjection(vision_config(toy)),
        "prior": prior,
        "text_proj": projection,
        "decoder": make_decoder(toy),
        "super_res_first": make_super_res(toy),
        "super_res_last": make_super_res(toy),
    }
    networks = {
        name: redraw(network, 100 * toy.seed + i)
        for i, (name, network) in enumerate(networks.items())
    }
    return networks | {
        "prior_scheduler": scheduler("fixed_small_log", "sample", 1.5),
        "decoder_scheduler": scheduler("learned_range", "epsilon", 1.0),
        "super_res_scheduler": scheduler("fixed_small_log", "epsilon", 1.0),
    }


def save_components(components, folder, **options):
    """Saves each as its own save_pretrained does, with the tokenizer's files beside them."""
    for name, component in components.items():
        extra = {} if name.endswith("scheduler") else options
        component.save_pretrained(folder / name, **extra)
    save_vocabulary(folder / "tokenizer")
    return folder


def save_vocabulary(folder):
    """Writes vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(TOKENIZER.vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in TOKENIZER.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
