"""Karlo v1 alpha at full size: CLIP ViT-L/14, prior, decoder, two-net super-resolution."""

from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.models.decoder import DecoderConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.stages import StageSpec
from unclip_jax.models.unet import UNetConfig
from unclip_jax.models.upsampler import UpsamplerConfig
from unclip_jax.nn.transformer import TransformerConfig

CLIP_VIT_L_14 = ClipConfig(
    embed_dim=768,
    vision=VisionConfig(image_size=224, patch_size=14, width=1024, layers=24, heads=16),
    text=TextConfig(vocab_size=49408, width=768, layers=12, heads=12),
)


def karlo_specs() -> dict[str, StageSpec]:
    """Returns Karlo v1 alpha's stages with its default sampling settings."""
    transformer = TransformerConfig(width=2048, layers=20, heads=32)
    prior = PriorDiffusionConfig(
        transformer, image_dim=768, text_dim=768, context=77, mask_text=True
    )
    decoder_unet = UNetConfig(
        64, 320, out_channels=6, attention_resolutions=(32, 16, 8), dropout=0.1
    )
    decoder = DecoderConfig(
        decoder_unet,
        image_dim=768,
        context_dim=1536,
        text_dim=768,
        text_context=77,
        null_image="learned",
        mask_text=True,
    )
    sr_unet = UNetConfig(256, 320, in_channels=6, mid_attention=False, scale_shift=False)
    specs = [
        StageSpec("clip", CLIP_VIT_L_14),
        StageSpec(
            "prior_diffusion",
            prior,
            DiffusionConfig(prediction="x0"),
            SamplingConfig(steps=25, guidance=4.0, x0_bound=10.0),
            EmbeddingNorm("standardize"),
        ),
        StageSpec(
            "decoder",
            decoder,
            DiffusionConfig(variance="learned_range", loss="hybrid"),
            SamplingConfig(steps=50, guidance=8.0),
            EmbeddingNorm("none"),
        ),
    ]
    for stage in ("super_res_first", "super_res_last"):
        model = UpsamplerConfig(sr_unet, low_res_size=64)
        specs.append(StageSpec(stage, model, DiffusionConfig(), SamplingConfig(steps=7)))
    return {spec.stage: spec for spec in specs}
