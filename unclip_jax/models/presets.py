"""The published architectures at full size, as stage specs.

karlo: Karlo v1 alpha: CLIP ViT-L/14, prior, decoder, two-net super-resolution.
paper: Table 3 of the unCLIP paper. What the paper leaves open, and what is chosen here:
    heads of the CLIP towers (16 and 16, as OpenCLIP's ViT-H), the vocabulary of every text encoder
    (CLIP's 49,408), scale-shift norms in the upsamplers (ADM's default; 730M and 282M for
    the paper's 700M and 300M), null z_i as zeros, guidance of the prior (none), of the decoder 1.25
    (that of its FID figures); of the autoregressive prior, cross-attention to the caption and
    buckets up to 4 deviations (prior_ar.py, pca_codec.py): 2.41B for the paper's 1B, of which the
    blocks without cross-attention are 1.21B + 0.80B.
"""

from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.models.decoder import DecoderConfig, TextEncoderConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.pca_codec import CodecConfig
from unclip_jax.models.prior_ar import CodeSampling, PriorArConfig
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.stages import StageSpec
from unclip_jax.models.unet import UNetConfig
from unclip_jax.models.upsampler import UpsamplerConfig
from unclip_jax.nn.transformer import TransformerConfig

CLIP_VOCAB = 49408
CLIP_VIT_L_14 = ClipConfig(
    embed_dim=768,
    vision=VisionConfig(image_size=224, patch_size=14, width=1024, layers=24, heads=16),
    text=TextConfig(vocab_size=CLIP_VOCAB, width=768, layers=12, heads=12),
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


def paper_specs() -> dict[str, StageSpec]:
    """Returns the paper's stages: scanned transformers, every block rematerialized."""
    norm = EmbeddingNorm("l2", 17.2)
    stack = TransformerConfig(2048, layers=24, heads=32, scan_layers=True, remat="block")
    clip = ClipConfig(
        embed_dim=1024,
        vision=VisionConfig(image_size=256, patch_size=16, width=1280, layers=32, heads=16),
        text=TextConfig(vocab_size=CLIP_VOCAB, width=1024, layers=24, heads=16),
        scan_layers=True,
        remat="block",
    )
    prior = PriorDiffusionConfig(
        stack,
        image_dim=1024,
        text="tokens",
        vocab_size=CLIP_VOCAB,
        context=256,
        text_emb_input="unit",
    )
    prior_ar = PriorArConfig(
        TransformerConfig(1664, layers=24, heads=26, scan_layers=True, remat="block"),
        CodecConfig(components=319, buckets=1024),
        image_dim=1024,
        encoder=stack,
        vocab_size=CLIP_VOCAB,
        context=256,
    )
    return {
        "clip": StageSpec("clip", clip),
        "prior_ar": StageSpec("prior_ar", prior_ar, sampling=CodeSampling()),
        "prior_diffusion": StageSpec(
            "prior_diffusion",
            prior,
            DiffusionConfig(prediction="x0", variance="analytic"),
            SamplingConfig(steps=64, x0_bound=None, num_candidates=2),
            norm,
        ),
        "decoder": StageSpec(
            "decoder",
            _paper_decoder(stack),
            DiffusionConfig(variance="learned_range", loss="hybrid"),
            SamplingConfig(steps=250, guidance=1.25),
            norm,
        ),
        "upsampler_256": StageSpec(
            "upsampler_256",
            paper_upsampler_256(),
            DiffusionConfig(),
            SamplingConfig("ddim", steps=27),
        ),
        "upsampler_1024": StageSpec(
            "upsampler_1024",
            paper_upsampler_1024(),
            DiffusionConfig("linear"),
            SamplingConfig("ddim", steps=15),
        ),
    }


def paper_upsampler_256(scale_shift: bool = True) -> UpsamplerConfig:
    """Returns the 64 -> 256 upsampler; the paper does not say how the timestep enters."""
    unet = UNetConfig(
        256,
        320,
        in_channels=6,
        mid_attention=False,
        scale_shift=scale_shift,
        dropout=0.1,
        remat="block",
    )
    return UpsamplerConfig(unet, low_res_size=64)


def paper_upsampler_1024(scale_shift: bool = True) -> UpsamplerConfig:
    """Returns the 256 -> 1024 upsampler; the paper does not say how the timestep enters."""
    unet = UNetConfig(
        1024,
        192,
        channel_mult=(1, 1, 2, 2, 4, 4),
        res_blocks=2,
        in_channels=6,
        mid_attention=False,
        scale_shift=scale_shift,
        remat="block",
    )
    return UpsamplerConfig(unet, low_res_size=256)


def _paper_decoder(stack: TransformerConfig) -> DecoderConfig:
    unet = UNetConfig(
        64,
        512,
        out_channels=6,
        attention_resolutions=(32, 16, 8),
        dropout=0.1,
        remat="block",
    )
    return DecoderConfig(
        unet,
        image_dim=1024,
        context_dim=stack.width,
        text="transformer",
        text_encoder=TextEncoderConfig(CLIP_VOCAB, 256, stack),
    )
