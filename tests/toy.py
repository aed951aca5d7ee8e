"""A bundle at toy widths with random parameters, zero-initialised ones too; one prior or two."""

import dataclasses

import jax
import numpy as np

from unclip_jax.checkpoint.bundle import Bundle, CascadeNet, CascadeStep, SamplingDefaults, Stage
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.models.decoder import DecoderConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.pca import fit_pca, unit_moments
from unclip_jax.models.pca_codec import CodecConfig, make_codec, with_codec
from unclip_jax.models.prior_ar import CodeSampling, PriorArConfig
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.stages import StageSpec, abstract_params
from unclip_jax.models.unet import UNetConfig
from unclip_jax.models.upsampler import UpsamplerConfig
from unclip_jax.nn.transformer import TransformerConfig
from unclip_jax.text.tokenizer import train_tokenizer

CAPTIONS = ["a red heart", "a green apple", "a blue car", "the sun", "a dog face", "a cat face"]
CONTEXT, DIM, SIZE, LARGE = 12, 16, 16, 32


def unet(size: int, **fields) -> UNetConfig:
    """Returns a U-Net of two levels and widths 8 and 16."""
    common = {"channels": 8, "channel_mult": (1, 2), "res_blocks": 1, "norm_groups": 4}
    return UNetConfig(image_size=size, head_channels=8, **common, **fields)


def toy_specs(vocab_size: int) -> dict[str, StageSpec]:
    """Returns the specs of clip, prior_diffusion, decoder and upsampler_256."""
    norm = EmbeddingNorm("l2", DIM**0.5)
    stack = TransformerConfig(width=16, layers=1, heads=2)
    specs = [
        StageSpec(
            "clip",
            ClipConfig(
                embed_dim=DIM,
                vision=VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
                text=TextConfig(vocab_size, width=16, layers=1, heads=2, context=CONTEXT),
            ),
        ),
        StageSpec(
            "prior_diffusion",
            PriorDiffusionConfig(stack, image_dim=DIM, text_dim=16, context=CONTEXT),
            DiffusionConfig(prediction="x0", variance="analytic"),
            SamplingConfig("ddpm", steps=4, guidance=2.0, x0_bound=5.0, num_candidates=2),
            norm,
        ),
        StageSpec(
            "decoder",
            DecoderConfig(
                unet(SIZE, out_channels=6, attention_resolutions=(8,)),
                image_dim=DIM,
                context_dim=16,
                text_dim=16,
                text_context=CONTEXT,
            ),
            DiffusionConfig(prediction="v", variance="learned_range", loss="hybrid"),
            SamplingConfig("ddpm", steps=4, guidance=3.0),
            norm,
        ),
        StageSpec(
            "upsampler_256",
            UpsamplerConfig(unet(LARGE, in_channels=6, mid_attention=False), low_res_size=SIZE),
            DiffusionConfig(prediction="v"),
            SamplingConfig("ddim", steps=4, eta=0.5),
        ),
    ]
    return {spec.stage: spec for spec in specs}


def random_params(spec: StageSpec, seed: int) -> dict:
    """Draws every parameter, so that no output is zero for want of training.

    The image networks predict v and their last layer is small: samples stay off black and white,
    where clipping would hide a difference.
    """
    rng = np.random.default_rng(seed)
    flat = {}
    for path, leaf in flatten_paths(abstract_params(spec)).items():
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        value = rng.standard_normal(leaf.shape) / np.sqrt(fan_in if len(leaf.shape) > 1 else 16)
        offset = 1.0 if path.endswith("scale") else 0.0
        value = 0.3 * value if "conv_out" in path else value
        flat[path] = (offset + value).astype(np.float32)
    return unflatten_paths(flat)


def toy_bundle(seed: int = 0) -> Bundle:
    """Returns the toy bundle; `seed` draws the parameters."""
    tokenizer = train_tokenizer(CAPTIONS * 3, 540, CONTEXT)
    specs = toy_specs(tokenizer.vocab_size)
    return Bundle(
        name="toy",
        license="Apache-2.0",
        provenance={"git_commit": "0" * 40, "data": "none"},
        stages={name: Stage(spec, random_params(spec, seed)) for name, spec in specs.items()},
        tokenizer=tokenizer,
        sampling=SamplingDefaults(prior="diffusion", size=LARGE),
        cascade=(CascadeStep(SIZE, LARGE, (CascadeNet("upsampler_256"),)),),
        arrays={"prior_diffusion.variance_table": np.linspace(0.01, 0.9, 1000)},
    )


def with_prior_ar(model: Bundle, seed: int = 0, **sampling) -> Bundle:
    """Returns the toy bundle with an autoregressive prior and the PCA that its codec is of."""
    cfg = PriorArConfig(
        TransformerConfig(width=16, layers=2, heads=2),
        CodecConfig(components=5, buckets=8, dot_buckets=8),
        image_dim=DIM,
        text="clip_states",
        text_dim=16,
        context=CONTEXT,
        positions=7,
    )
    spec = StageSpec("prior_ar", cfg, sampling=CodeSampling(**{"guidance": 2.0} | sampling))
    rng = np.random.default_rng(seed)
    pca = fit_pca(unit_moments(rng.normal(size=(50, DIM))), "toy")
    codec = make_codec(pca, cfg.codec, rng.uniform(-0.5, 0.9, 100))
    params = with_codec(random_params(spec, seed), codec)
    stages = {**model.stages, "prior_ar": Stage(spec, params)}
    return dataclasses.replace(model, stages=stages, pca=pca)


def root(seed: int = 0) -> jax.Array:
    """Returns the sampling key of a seed."""
    return jax.random.key(seed, impl="threefry2x32")


def with_sampling(model: Bundle, stage: str, sampling: SamplingConfig) -> Bundle:
    """Returns the bundle with a stage that is sampled in another way."""
    held = model.stage(stage)
    spec = dataclasses.replace(held.spec, sampling=sampling)
    return dataclasses.replace(
        model, stages={**model.stages, stage: dataclasses.replace(held, spec=spec)}
    )
