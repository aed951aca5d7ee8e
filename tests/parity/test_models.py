"""Our networks against transformers' and diffusers', with the same random weights, in float32.

Every weight is redrawn, so that zero-initialised layers count. The converters here are the shortest
that serve; they assert that each of our leaves is filled and each torch tensor used.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from transformers import CLIPConfig as HFConfig
from transformers import CLIPModel

from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.models.clip import Clip, ClipConfig, TextConfig, VisionConfig
from unclip_jax.models.decoder import Decoder, DecoderConfig
from unclip_jax.models.embedding_codec import EmbeddingNorm
from unclip_jax.models.prior_diffusion import PriorDiffusion, PriorDiffusionConfig
from unclip_jax.models.stages import unboxed
from unclip_jax.models.unet import UNet, UNetConfig
from unclip_jax.nn.transformer import TransformerConfig

RTOL = 1e-4  # largest error over the largest value, float32 on both sides


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"), torch.no_grad():
        yield


def redraw(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        if re.search(r"(norm|layrnorm|layer_norm)\w*\.weight$", name):
            p.copy_(1 + 0.2 * torch.randn(p.shape, generator=generator))
        elif "logit_scale" not in name:
            fan_in = p[0].numel() if p.ndim > 1 else 100
            p.copy_(torch.randn(p.shape, generator=generator) * min(1.0, fan_in**-0.5))
    return module.eval()


def to_torch(value):
    return torch.from_numpy(np.array(value))


def to_ours(value):
    value = value.numpy()
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T if value.ndim == 2 else value


def interleave(parts, heads):
    """[in, heads * c] of q, k, v -> one [in, heads * parts * c], head by head."""
    lead = parts[0].shape[:-1]
    return np.stack([p.reshape(*lead, heads, -1) for p in parts], -2).reshape(*lead, -1)


def convert(state, rules, heads):
    """Applies (regex, path) rules; parts of fused projections end in "#0", "#1", ….

    `heads(width)` is the number of heads at a width.
    """
    flat, fused = {}, {}
    for key, value in state.items():
        if key.endswith("position_ids"):
            continue
        for pattern, target in rules:
            if re.fullmatch(pattern, key):
                path = re.sub(pattern, target, key).replace("/weight", "/kernel")
                break
        else:
            raise AssertionError(f"no rule for {key}")
        path = re.sub(r"((?:norm|ln)_\w+)/kernel", r"\1/scale", path)
        path = re.sub(r"norm/kernel", "norm/scale", path)
        value = value if path.endswith("/embedding") else to_ours(value)
        value = value.numpy() if isinstance(value, torch.Tensor) else value
        if "#" in path:
            name, part = re.fullmatch(r"(.*)#(\d)(.*)", path).group(1, 2)
            leaf = path.rsplit("/", 1)[1]
            fused.setdefault(f"{name}/{leaf}", {})[int(part)] = value
        else:
            flat[path] = value
    for path, parts in fused.items():
        parts = [parts[i] for i in sorted(parts)]
        flat[path] = interleave(parts, heads(parts[0].shape[-1]))
    return flat


def filled(module, flat, *inputs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    shapes = flatten_paths(unboxed(shapes))
    assert {k: v.shape for k, v in flat.items()} == {k: v.shape for k, v in shapes.items()}
    return {"params": unflatten_paths({k: jnp.asarray(v) for k, v in flat.items()})}


def assert_close(ours, theirs):
    theirs = theirs.numpy()
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    assert error < RTOL, f"relative error {error:.2e}"


TOWER = r"(text|vision)_model\.encoder\.layers\.(\d+)\."
CLIP_BLOCK = {
    r"self_attn\.q_proj": "attn/qkv#0",
    r"self_attn\.k_proj": "attn/qkv#1",
    r"self_attn\.v_proj": "attn/qkv#2",
    r"self_attn\.out_proj": "attn/out",
    r"layer_norm(\d)": r"ln_\3",
    r"mlp\.fc1": "mlp/fc",
    r"mlp\.fc2": "mlp/proj",
}
CLIP_RULES = [
    *(
        (TOWER + source + r"\.(?P<leaf>\w+)", rf"\1/transformer/blocks_\2/{target}/\g<leaf>")
        for source, target in CLIP_BLOCK.items()
    ),
    (r"text_model\.embeddings\.token_embedding\.weight", "text/token_embed/embedding"),
    (r"text_model\.embeddings\.position_embedding\.weight", "text/pos_embed/embedding"),
    (r"text_model\.final_layer_norm\.(\w+)", r"text/ln_final/\1"),
    (r"text_projection\.weight", "text/proj/weight"),
    (r"vision_model\.embeddings\.class_embedding", "vision/class_embed"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "vision/patch_embed/weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "vision/pos_embed/embedding"),
    (r"vision_model\.pre_layrnorm\.(\w+)", r"vision/ln_pre/\1"),
    (r"vision_model\.post_layernorm\.(\w+)", r"vision/ln_post/\1"),
    (r"visual_projection\.weight", "vision/proj/weight"),
    (r"logit_scale", "logit_scale"),
]


@pytest.mark.parametrize("activation, seed", [("quick_gelu", 0), ("gelu", 1)])
def test_clip_equals_transformers(activation, seed):
    hf = HFConfig(
        text_config={
            "vocab_size": 50,
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": 9,
            "hidden_act": activation,
            "eos_token_id": 49,
            "bos_token_id": 48,
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 16,
            "patch_size": 4,
            "hidden_act": activation,
        },
        projection_dim=24,
    )
    torch.manual_seed(seed)
    theirs = redraw(CLIPModel(hf), seed)
    cfg = ClipConfig(
        24,
        VisionConfig(16, 4, 48, 2, 3),
        TextConfig(50, 32, 3, 2, context=9),
        activation,
        image_mean=(0.0, 0.0, 0.0),
        image_std=(0.5, 0.5, 0.5),
    )
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(3, 16, 16, 3)).astype(np.float32)
    tokens = rng.integers(1, 48, size=(3, 9)).astype(np.int32)
    for row, end in enumerate((2, 8, 5)):
        tokens[row, end:] = [49] + [0] * (8 - end)
    ours = Clip(cfg)
    flat = convert(theirs.state_dict(), CLIP_RULES, lambda width: width // 16)
    # (x + 1) / 2 over std 0.5 is x + 1.
    inputs = (jnp.asarray(pixels), jnp.asarray(tokens))
    variables = filled(ours, flat, *inputs)
    out = theirs(
        input_ids=torch.from_numpy(tokens).long(),
        pixel_values=torch.from_numpy(pixels + 1).permute(0, 3, 1, 2),
    )
    image_emb = jax.jit(lambda *xs: ours.apply(*xs, method="encode_image"))(variables, inputs[0])
    text_emb, states = jax.jit(lambda *xs: ours.apply(*xs, method="encode_text"))(
        variables, inputs[1]
    )
    theirs_states = out.text_model_output.last_hidden_state
    assert_close(states, theirs_states)
    eot = torch.from_numpy(tokens.argmax(-1)).long()
    assert_close(text_emb, theirs.text_projection(theirs_states[torch.arange(3), eot]))
    class_token = out.vision_model_output.last_hidden_state[:, 0]
    class_token = theirs.vision_model.post_layernorm(class_token)
    assert_close(image_emb, theirs.visual_projection(class_token))
    unit = [x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (image_emb, text_emb)]
    assert_close(unit[0], out.image_embeds)
    assert_close(unit[1], out.text_embeds)


PRIOR_RULES = [
    (r"positional_embedding", "pos_embed/table"),
    (r"prd_embedding", "query"),
    (r"clip_(mean|std)", r"clip_\1"),
    (r"time_embedding\.linear_(\d)\.(\w+)", r"time_embed/fc_\1/\2"),
    (r"proj_in\.(\w+)", r"image_emb_proj/\1"),
    (r"embedding_proj\.(\w+)", r"text_emb_proj/\1"),
    (r"encoder_hidden_states_proj\.(\w+)", r"text_states_proj/\1"),
    (r"norm_out\.(\w+)", r"ln_final/\1"),
    (r"proj_to_clip_embeddings\.(\w+)", r"out_proj/\1"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_q\.(\w+)", r"transformer/blocks_\1/attn/qkv#0/\2"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_k\.(\w+)", r"transformer/blocks_\1/attn/qkv#1/\2"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_v\.(\w+)", r"transformer/blocks_\1/attn/qkv#2/\2"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_out\.0\.(\w+)", r"transformer/blocks_\1/attn/out/\2"),
    (r"transformer_blocks\.(\d+)\.norm1\.(\w+)", r"transformer/blocks_\1/ln_1/\2"),
    (r"transformer_blocks\.(\d+)\.norm3\.(\w+)", r"transformer/blocks_\1/ln_2/\2"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj\.(\w+)", r"transformer/blocks_\1/mlp/fc/\2"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.2\.(\w+)", r"transformer/blocks_\1/mlp/proj/\2"),
]


def caption_batch(n, context, width, dim, seed):
    rng = np.random.default_rng(seed)
    mask = np.arange(context)[None] < rng.integers(2, context + 1, size=(n, 1))
    emb = rng.normal(size=(n, dim)).astype(np.float32)
    states = rng.normal(size=(n, context, width)).astype(np.float32)
    return jax.tree.map(jnp.asarray, TextFeatures(emb, states, mask))


@pytest.mark.parametrize("heads, layers, seed", [(2, 2, 0), (3, 1, 1)])
def test_prior_equals_diffusers(heads, layers, seed):
    context, dim, width = 7, 12, 16 * heads
    theirs = PriorTransformer(
        num_attention_heads=heads,
        attention_head_dim=16,
        num_layers=layers,
        embedding_dim=dim,
        num_embeddings=context,
        additional_embeddings=4,
    )
    theirs = redraw(theirs, seed)
    stack = TransformerConfig(width, layers, heads)
    cfg = PriorDiffusionConfig(stack, image_dim=dim, text_dim=dim, context=context, mask_text=True)
    ours = PriorDiffusion(cfg, EmbeddingNorm("standardise"))
    text = caption_batch(3, context, dim, dim, seed)
    x_t = np.random.default_rng(9).normal(size=(3, dim)).astype(np.float32)
    t = np.array([0, 417, 999])
    flat = convert(theirs.state_dict(), PRIOR_RULES, lambda _: heads)
    flat["pos_embed/embedding"] = theirs.positional_embedding[0].numpy()
    del flat["pos_embed/table"]
    flat = {
        k: v.reshape(-1) if k in ("query", "clip_mean", "clip_std") else v for k, v in flat.items()
    }
    inputs = (jnp.asarray(x_t), jnp.asarray(t), Cond(text=text))
    expected = theirs(
        torch.from_numpy(x_t),
        torch.from_numpy(t),
        proj_embedding=to_torch(text.text_emb),
        encoder_hidden_states=to_torch(text.text_states),
        attention_mask=to_torch(text.text_mask),
    ).predicted_image_embedding
    assert_close(jax.jit(ours.apply)(filled(ours, flat, *inputs), *inputs), expected)


def unet_rules(levels):
    """Names of diffusers' blocks; its up blocks count from the deepest level."""
    res = [
        (r"norm(\d)\.(\w+)", r"norm_{a}/{b}"),
        (r"conv(\d)\.(\w+)", r"conv_{a}/{b}"),
        (r"(time_emb_proj)\.(\w+)", r"time_proj/{b}"),
        (r"(conv_shortcut)\.(\w+)", r"skip/{b}"),
    ]
    attn = [
        (r"(group_norm)\.(\w+)", r"norm/{b}"),
        (r"(to_q)\.(\w+)", r"qkv#0/{b}"),
        (r"(to_k)\.(\w+)", r"qkv#1/{b}"),
        (r"(to_v)\.(\w+)", r"qkv#2/{b}"),
        (r"(add_k_proj)\.(\w+)", r"context_kv#0/{b}"),
        (r"(add_v_proj)\.(\w+)", r"context_kv#1/{b}"),
        (r"(to_out)\.0\.(\w+)", r"out/{b}"),
    ]
    rules = [
        (r"time_embedding\.linear_(\d)\.(\w+)", r"time_embed/fc_\1/\2"),
        (r"conv_in\.(\w+)", r"conv_in/\1"),
        (r"conv_norm_out\.(\w+)", r"norm_out/\1"),
        (r"conv_out\.(\w+)", r"conv_out/\1"),
    ]
    for i in range(levels):
        for side, index in (("down", i), ("up", levels - 1 - i)):
            block = rf"{side}_blocks\.{index}\."
            for pattern, target in res:
                fill = target.format(a=r"\2", b=r"\3")
                rules.append((block + r"resnets\.(\d+)\." + pattern, rf"{side}_{i}_res_\1/" + fill))
                fill = target.format(a=r"\1", b=r"\2")
                rules.append(
                    (block + rf"{side}samplers\.0\." + pattern, f"{side}_{i}_{side}/" + fill)
                )
            for pattern, target in attn:
                fill = target.format(b=r"\3")
                rules.append(
                    (block + r"attentions\.(\d+)\." + pattern, rf"{side}_{i}_attn_\1/" + fill)
                )
    for pattern, target in res:
        for index, name in enumerate(("mid_res_1", "mid_res_2")):
            fill = target.format(a=r"\1", b=r"\2")
            rules.append((rf"mid_block\.resnets\.{index}\." + pattern, f"{name}/" + fill))
    for pattern, target in attn:
        rules.append(
            (r"mid_block\.attentions\.0\." + pattern, "mid_attn/" + target.format(b=r"\2"))
        )
    return rules


PROJ_RULES = [
    (r"learned_classifier_free_guidance_embeddings", "null_image_emb"),
    (r"embedding_proj\.(\w+)", r"text_time_proj/\1"),
    (r"clip_image_embeddings_project_to_time_embeddings\.(\w+)", r"image_time_proj/\1"),
    (r"clip_extra_context_tokens_proj\.(\w+)", r"image_token_proj/\1"),
    (r"encoder_hidden_states_proj\.(\w+)", r"text_states_proj/\1"),
    (r"text_encoder_hidden_states_norm\.(\w+)", r"text_states_norm/\1"),
]


@pytest.mark.parametrize("mult, layers, seed", [((1, 2), 2, 0), ((1, 2, 3), 1, 1)])
def test_decoder_equals_diffusers(mult, layers, seed):
    context, dim, width, base, n = 6, 12, 24, 32, 3
    blocks = len(mult)
    theirs = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        block_out_channels=tuple(base * m for m in mult),
        layers_per_block=layers,
        down_block_types=("ResnetDownsampleBlock2D",)
        + ("SimpleCrossAttnDownBlock2D",) * (blocks - 1),
        up_block_types=("SimpleCrossAttnUpBlock2D",) * (blocks - 1) + ("ResnetUpsampleBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=width,
        attention_head_dim=16,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )
    theirs = redraw(theirs, seed)
    projections = redraw(
        UnCLIPTextProjModel(
            clip_embeddings_dim=dim, time_embed_dim=4 * base, cross_attention_dim=width
        ),
        seed + 10,
    )
    unet = UNetConfig(
        16,
        base,
        channel_mult=mult,
        res_blocks=layers,
        out_channels=6,
        attention_resolutions=tuple(16 // 2**i for i in range(1, blocks)),
        head_channels=16,
    )
    cfg = DecoderConfig(
        unet,
        image_dim=dim,
        context_dim=width,
        text_dim=dim,
        text_context=context,
        null_image="learned",
        mask_text=True,
    )
    ours = Decoder(cfg, EmbeddingNorm("none"))
    flat = convert(theirs.state_dict(), unet_rules(blocks), lambda c: c // 16)
    flat = {f"unet/{k}": v for k, v in flat.items()}
    flat |= convert(projections.state_dict(), PROJ_RULES, None)
    rng = np.random.default_rng(seed)
    x_t = rng.normal(size=(n, 16, 16, 3)).astype(np.float32)
    z = rng.normal(size=(n, dim)).astype(np.float32)
    t = np.array([0, 500, 999])
    text = caption_batch(n, context, dim, dim, seed)
    keep = np.array([True, False, True])
    cond = Cond(image_emb=jnp.asarray(z), image_keep=jnp.asarray(keep), text=text)
    inputs = (jnp.asarray(x_t), jnp.asarray(t), cond)
    result = jax.jit(ours.apply)(filled(ours, flat, *inputs), *inputs)

    null = projections.learned_classifier_free_guidance_embeddings.numpy()
    states, emb = projections(
        image_embeddings=torch.from_numpy(np.where(keep[:, None], z, null[None])),
        prompt_embeds=to_torch(text.text_emb),
        text_encoder_hidden_states=to_torch(text.text_states),
        do_classifier_free_guidance=False,
    )
    expected = theirs(
        torch.from_numpy(x_t).permute(0, 3, 1, 2),
        torch.from_numpy(t),
        encoder_hidden_states=states,
        class_labels=emb,
        attention_mask=torch.nn.functional.pad(to_torch(text.text_mask), (4, 0), value=True),
    ).sample
    assert_close(result, expected.permute(0, 2, 3, 1))


def test_super_resolution_equals_diffusers():
    base, mult = 32, (1, 2, 3)
    theirs = UNet2DModel(
        sample_size=16,
        in_channels=6,
        out_channels=3,
        block_out_channels=tuple(base * m for m in mult),
        layers_per_block=2,
        down_block_types=("ResnetDownsampleBlock2D",) * 3,
        up_block_types=("ResnetUpsampleBlock2D",) * 3,
        add_attention=False,
        norm_num_groups=32,
        norm_eps=1e-5,
        freq_shift=0,
        flip_sin_to_cos=True,
    )
    theirs = redraw(theirs, 3)
    cfg = UNetConfig(
        16,
        base,
        channel_mult=mult,
        res_blocks=2,
        in_channels=6,
        mid_attention=False,
        scale_shift=False,
    )
    ours = UNet(cfg)
    x = np.random.default_rng(4).normal(size=(2, 16, 24, 6)).astype(np.float32)
    t = np.array([1, 833])
    flat = convert(theirs.state_dict(), unet_rules(3), None)
    inputs = (jnp.asarray(x), jnp.asarray(t))
    result = jax.jit(ours.apply)(filled(ours, flat, *inputs), *inputs)
    expected = theirs(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(t)).sample
    assert_close(result, expected.permute(0, 2, 3, 1))
