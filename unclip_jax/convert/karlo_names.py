"""Names of Karlo's parameters in diffusers' components and in Karlo's own checkpoints.

Karlo's fused projections are laid out by head, like ours; diffusers has separate query, key and
value projections. diffusers numbers its up blocks from the deepest level, Karlo numbers its input
and output blocks consecutively (see models/unet.py).
"""

from unclip_jax.convert.name_tables import Table, blocks, module, raw, under
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.unet import UNetConfig


def diffusers_prior_table(cfg: PriorDiffusionConfig) -> Table:
    """Returns the names of diffusers' PriorTransformer."""
    qkv = [f"attn1.to_{part}" for part in "qkv"]
    block = {
        "ln_1": module("norm1"),
        "attn/qkv": module(*qkv, heads=cfg.transformer.heads),
        "attn/out": module("attn1.to_out.0"),
        "ln_2": module("norm3"),
        "mlp/fc": module("ff.net.0.proj"),
        "mlp/proj": module("ff.net.2"),
    }
    return {
        "pos_embed/embedding": raw("positional_embedding", ones=1),
        "query": raw("prd_embedding", ones=2),
        "clip_mean": raw("clip_mean", ones=1),
        "clip_std": raw("clip_std", ones=1),
        "time_embed/fc_1": module("time_embedding.linear_1"),
        "time_embed/fc_2": module("time_embedding.linear_2"),
        "image_emb_proj": module("proj_in"),
        "text_emb_proj": module("embedding_proj"),
        "text_states_proj": module("encoder_hidden_states_proj"),
        "ln_final": module("norm_out"),
        "out_proj": module("proj_to_clip_embeddings"),
        **blocks("transformer", "transformer_blocks.{}", cfg.transformer.layers, block),
    }


def karlo_prior_table(cfg: PriorDiffusionConfig) -> Table:
    """Returns the names of Karlo's prior joined with its statistics, which are in another file."""
    block = {
        "ln_1": module("ln_1"),
        "attn/qkv": module("attn.c_qkv"),
        "attn/out": module("attn.c_proj"),
        "ln_2": module("ln_2"),
        "mlp/fc": module("mlp.c_fc"),
        "mlp/proj": module("mlp.c_proj"),
    }
    table = {
        "pos_embed/embedding": raw("positional_embedding", ones=1),
        "query": raw("prd_emb", ones=2),
        "time_embed/fc_1": module("time_embed.0"),
        "time_embed/fc_2": module("time_embed.2"),
        "image_emb_proj": module("clip_img_proj"),
        "text_emb_proj": module("text_emb_proj"),
        "text_states_proj": module("text_enc_proj"),
        "ln_final": module("final_ln"),
        "out_proj": module("out_proj"),
        **blocks("transformer", "transformer.resblocks.{}", cfg.transformer.layers, block),
    }
    statistics = {"clip_mean": raw("statistics.0"), "clip_std": raw("statistics.1")}
    return under("", "model.", table) | statistics


def diffusers_decoder_table(unet: UNetConfig) -> Table:
    """Returns the names of the decoder's U-Net and of UnCLIPTextProjModel, by component."""
    projections = {
        "null_image_emb": raw("learned_classifier_free_guidance_embeddings"),
        "text_time_proj": module("embedding_proj"),
        "image_time_proj": module("clip_image_embeddings_project_to_time_embeddings"),
        "image_token_proj": module("clip_extra_context_tokens_proj"),
        "text_states_proj": module("encoder_hidden_states_proj"),
        "text_states_norm": module("text_encoder_hidden_states_norm"),
    }
    table = under("unet/", "decoder/", diffusers_unet_table(unet))
    return table | under("", "text_proj/", projections)


def karlo_decoder_table(unet: UNetConfig) -> Table:
    """Returns the names of Karlo's decoder checkpoint."""
    projections = {
        "null_image_emb": raw("cf_param"),
        "text_time_proj": module("text_feat_proj"),
        "image_time_proj": module("clip_emb"),
        "image_token_proj": module("clip_tok_proj"),
        "text_states_proj": module("text_seq_proj.0"),
        "text_states_norm": module("text_seq_proj.1"),
    }
    table = under("unet/", "model.", karlo_unet_table(unet))
    return table | under("", "model.", projections)


def diffusers_unet_table(cfg: UNetConfig) -> Table:
    """Returns the names of UNet2DConditionModel and UNet2DModel with ADM's blocks."""
    res = {
        "norm_1": module("norm1"),
        "conv_1": module("conv1"),
        "time_proj": module("time_emb_proj"),
        "norm_2": module("norm2"),
        "conv_2": module("conv2"),
        "skip": module("conv_shortcut"),
    }
    table = {
        "time_embed/fc_1": module("time_embedding.linear_1"),
        "time_embed/fc_2": module("time_embedding.linear_2"),
        "conv_in": module("conv_in"),
        "norm_out": module("conv_norm_out"),
        "conv_out": module("conv_out"),
        **under("mid_res_1/", "mid_block.resnets.0.", res),
        **under("mid_res_2/", "mid_block.resnets.1.", res),
    }
    levels = len(cfg.channel_mult)
    for i, mult in enumerate(cfg.channel_mult):
        attention = _diffusers_attention(cfg.channels * mult // cfg.head_channels)
        for side, block in (("down", i), ("up", levels - 1 - i)):
            place = f"{side}_blocks.{block}"
            for j in range(cfg.res_blocks + (side == "up")):
                table |= under(f"{side}_{i}_res_{j}/", f"{place}.resnets.{j}.", res)
                table |= under(f"{side}_{i}_attn_{j}/", f"{place}.attentions.{j}.", attention)
            table |= under(f"{side}_{i}_{side}/", f"{place}.{side}samplers.0.", res)
    return table | under("mid_attn/", "mid_block.attentions.0.", attention)


def _diffusers_attention(heads: int) -> Table:
    return {
        "norm": module("group_norm"),
        "qkv": module("to_q", "to_k", "to_v", heads=heads),
        "context_kv": module("add_k_proj", "add_v_proj", heads=heads),
        "out": module("to_out.0"),
    }


def karlo_unet_table(cfg: UNetConfig) -> Table:
    """Returns the names of ADM's U-Net in Karlo's checkpoints, without prefix."""
    res = {
        "norm_1": module("in_layers.0"),
        "conv_1": module("in_layers.2"),
        "time_proj": module("emb_layers.1"),
        "norm_2": module("out_layers.0"),
        "conv_2": module("out_layers.3"),
        "skip": module("skip_connection"),
    }
    attention = {
        "norm": module("norm"),
        "qkv": module("qkv", ones=1),
        "context_kv": module("encoder_kv", ones=1),
        "out": module("proj_out", ones=1),
    }
    last = 2 if cfg.mid_attention else 1
    table = {
        "time_embed/fc_1": module("time_embed.0"),
        "time_embed/fc_2": module("time_embed.2"),
        "conv_in": module("input_blocks.0.0"),
        "norm_out": module("out.0"),
        "conv_out": module("out.2"),
        **under("mid_res_1/", "middle_block.0.", res),
        **under("mid_attn/", "middle_block.1.", attention),
        **under("mid_res_2/", f"middle_block.{last}.", res),
    }
    levels, stride = len(cfg.channel_mult), cfg.res_blocks + 1
    for i in range(levels):
        first = 1 + i * stride
        for j in range(cfg.res_blocks):
            table |= under(f"down_{i}_res_{j}/", f"input_blocks.{first + j}.0.", res)
            table |= under(f"down_{i}_attn_{j}/", f"input_blocks.{first + j}.1.", attention)
        table |= under(f"down_{i}_down/", f"input_blocks.{first + cfg.res_blocks}.0.", res)
        first = (levels - 1 - i) * stride
        for j in range(stride):
            table |= under(f"up_{i}_res_{j}/", f"output_blocks.{first + j}.0.", res)
            table |= under(f"up_{i}_attn_{j}/", f"output_blocks.{first + j}.1.", attention)
        place = 2 if cfg.attends(i) else 1
        table |= under(f"up_{i}_up/", f"output_blocks.{first + cfg.res_blocks}.{place}.", res)
    return table


def diffusers_super_res_table(unet: UNetConfig) -> Table:
    """Returns the names of a super-resolution UNet2DModel."""
    return under("unet/", "", diffusers_unet_table(unet))


def karlo_super_res_table(unet: UNetConfig, prefix: str) -> Table:
    """Returns the names of one net of Karlo's super-resolution checkpoint."""
    return under("unet/", prefix, karlo_unet_table(unet))
