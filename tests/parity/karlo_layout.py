"""Karlo's original state dicts from diffusers' modules, by the published converter's rules.

Written against `scripts/convert_kakao_brain_unclip_to_diffusers.py` read backwards, on torch
tensors, and knowing nothing of the package's tables.
"""

import torch


def interleaved(parts, head, ones=0):
    """q, k, v -> one tensor, `head` rows of each in turn."""
    rows = [part.reshape(-1, head, *part.shape[1:]) for part in parts]
    whole = torch.stack(rows, 1).flatten(0, 2)
    return whole.reshape(*whole.shape, *[1] * ones) if whole.ndim > 1 else whole


def copy(out, target, module):
    out[f"{target}.weight"], out[f"{target}.bias"] = module.weight.data, module.bias.data


def prior_state(prior, head):
    out = {
        "positional_embedding": prior.positional_embedding.data,
        "prd_emb": prior.prd_embedding.data,
    }
    for target, module in (
        ("time_embed.0", prior.time_embedding.linear_1),
        ("time_embed.2", prior.time_embedding.linear_2),
        ("clip_img_proj", prior.proj_in),
        ("text_emb_proj", prior.embedding_proj),
        ("text_enc_proj", prior.encoder_hidden_states_proj),
        ("final_ln", prior.norm_out),
        ("out_proj", prior.proj_to_clip_embeddings),
    ):
        copy(out, target, module)
    for i, block in enumerate(prior.transformer_blocks):
        place = f"transformer.resblocks.{i}."
        copy(out, place + "ln_1", block.norm1)
        copy(out, place + "ln_2", block.norm3)
        copy(out, place + "mlp.c_fc", block.ff.net[0].proj)
        copy(out, place + "mlp.c_proj", block.ff.net[2])
        copy(out, place + "attn.c_proj", block.attn1.to_out[0])
        qkv = [block.attn1.to_q, block.attn1.to_k, block.attn1.to_v]
        for leaf in ("weight", "bias"):
            parts = [getattr(module, leaf).data for module in qkv]
            out[f"{place}attn.c_qkv.{leaf}"] = interleaved(parts, head)
    return {f"model.{key}": value for key, value in out.items()}


def res(out, place, block):
    copy(out, place + "in_layers.0", block.norm1)
    copy(out, place + "in_layers.2", block.conv1)
    copy(out, place + "emb_layers.1", block.time_emb_proj)
    copy(out, place + "out_layers.0", block.norm2)
    copy(out, place + "out_layers.3", block.conv2)
    if block.conv_shortcut is not None:
        copy(out, place + "skip_connection", block.conv_shortcut)


def attention(out, place, block, head):
    copy(out, place + "norm", block.group_norm)
    for leaf in ("weight", "bias"):
        parts = [getattr(module, leaf).data for module in (block.to_q, block.to_k, block.to_v)]
        out[f"{place}qkv.{leaf}"] = interleaved(parts, head, ones=1)
        parts = [getattr(module, leaf).data for module in (block.add_k_proj, block.add_v_proj)]
        out[f"{place}encoder_kv.{leaf}"] = interleaved(parts, head, ones=1)
    out[place + "proj_out.weight"] = block.to_out[0].weight.data[..., None]
    out[place + "proj_out.bias"] = block.to_out[0].bias.data


def unet_state(unet, head):
    out = {}
    for target, module in (
        ("time_embed.0", unet.time_embedding.linear_1),
        ("time_embed.2", unet.time_embedding.linear_2),
        ("input_blocks.0.0", unet.conv_in),
        ("out.0", unet.conv_norm_out),
        ("out.2", unet.conv_out),
    ):
        copy(out, target, module)
    number = 1
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", None)
        for j, resnet in enumerate(block.resnets):
            res(out, f"input_blocks.{number}.0.", resnet)
            if attentions:
                attention(out, f"input_blocks.{number}.1.", attentions[j], head)
            number += 1
        for resnet in block.downsamplers or ():
            res(out, f"input_blocks.{number}.0.", resnet)
            number += 1
    middle = unet.mid_block
    place = 0
    for module in (middle.resnets[0], *filter(None, middle.attentions), middle.resnets[1]):
        if hasattr(module, "conv1"):
            res(out, f"middle_block.{place}.", module)
        else:
            attention(out, f"middle_block.{place}.", module, head)
        place += 1
    number = 0
    for block in unet.up_blocks:
        attentions = getattr(block, "attentions", None)
        for j, resnet in enumerate(block.resnets):
            res(out, f"output_blocks.{number}.0.", resnet)
            if attentions:
                attention(out, f"output_blocks.{number}.1.", attentions[j], head)
            if j == len(block.resnets) - 1 and block.upsamplers:
                res(out, f"output_blocks.{number}.{2 if attentions else 1}.", block.upsamplers[0])
            number += 1
    return out


def decoder_state(unet, projection, head):
    out = unet_state(unet, head)
    out["cf_param"] = projection.learned_classifier_free_guidance_embeddings.data
    for target, module in (
        ("text_seq_proj.0", projection.encoder_hidden_states_proj),
        ("text_seq_proj.1", projection.text_encoder_hidden_states_norm),
        ("clip_tok_proj", projection.clip_extra_context_tokens_proj),
        ("text_feat_proj", projection.embedding_proj),
        ("clip_emb", projection.clip_image_embeddings_project_to_time_embeddings),
    ):
        copy(out, target, module)
    return {f"model.{key}": value for key, value in out.items()}


def clip_state(text, vision, logit_scale):
    """OpenAI's state dict of the two towers."""
    words, patches = text.text_model.embeddings, vision.vision_model.embeddings
    out = {
        "positional_embedding": words.position_embedding.weight.data,
        "token_embedding.weight": words.token_embedding.weight.data,
        "text_projection": text.text_projection.weight.data.T.contiguous(),
        "visual.class_embedding": patches.class_embedding.data,
        "visual.positional_embedding": patches.position_embedding.weight.data,
        "visual.conv1.weight": patches.patch_embedding.weight.data,
        "visual.proj": vision.visual_projection.weight.data.T.contiguous(),
        "logit_scale": torch.tensor(logit_scale),
    }
    copy(out, "ln_final", text.text_model.final_layer_norm)
    copy(out, "visual.ln_pre", vision.vision_model.pre_layrnorm)
    copy(out, "visual.ln_post", vision.vision_model.post_layernorm)
    for prefix, tower in (("", text.text_model), ("visual.", vision.vision_model)):
        for i, layer in enumerate(tower.encoder.layers):
            place = f"{prefix}transformer.resblocks.{i}."
            copy(out, place + "ln_1", layer.layer_norm1)
            copy(out, place + "ln_2", layer.layer_norm2)
            copy(out, place + "mlp.c_fc", layer.mlp.fc1)
            copy(out, place + "mlp.c_proj", layer.mlp.fc2)
            copy(out, place + "attn.out_proj", layer.self_attn.out_proj)
            parts = [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]
            for leaf in ("weight", "bias"):
                key = f"{place}attn.in_proj_{leaf}"
                out[key] = torch.cat([getattr(part, leaf).data for part in parts])
    return out
