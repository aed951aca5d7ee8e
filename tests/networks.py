"""Networks of a few thousand weights for tests, with every weight redrawn.

Zero-initialised outputs would hide a wrong mask or an unused condition.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.models.clip import ClipConfig, TextConfig, VisionConfig
from unclip_jax.models.dalle import DalleConfig
from unclip_jax.models.decoder import DecoderConfig, TextEncoderConfig
from unclip_jax.models.dvae import DvaeConfig, TokenDecoding
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.pca_codec import CodecConfig
from unclip_jax.models.prior_ar import CodeSampling, PriorArConfig
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.stages import StageSpec, abstract_params, make_module
from unclip_jax.models.unet import UNetConfig
from unclip_jax.models.upsampler import UpsamplerConfig
from unclip_jax.nn.transformer import TransformerConfig

DIM, WIDTH, CONTEXT, VOCAB, SIZE = 12, 16, 6, 20, 8
STACK = TransformerConfig(WIDTH, layers=2, heads=2)
UNET = UNetConfig(
    SIZE,
    8,
    channel_mult=(1, 2),
    res_blocks=1,
    out_channels=6,
    attention_resolutions=(4,),
    head_channels=8,
    norm_groups=4,
)
CODEC = CodecConfig(components=5, buckets=9, dot_buckets=7)
L2 = EmbeddingNorm("l2", 2.0)
HYBRID = DiffusionConfig(variance="learned_range", loss="hybrid")


def redraw(shapes, seed=0):
    """Random parameters of these shapes: gains near one, the rest scaled by fan-in."""
    rng, flat = np.random.default_rng(seed), {}
    for path, leaf in flatten_paths(shapes).items():
        value = rng.normal(size=leaf.shape)
        if path.endswith(("/scale", "clip_std")):
            value = 1 + 0.2 * value
        elif len(leaf.shape) > 1 and not path.endswith("/embedding"):
            value = value * np.prod(leaf.shape[:-1]) ** -0.5
        flat[path] = jnp.asarray(value, jnp.float32)
    return unflatten_paths(flat)


def clip_spec(**changes):
    vision = VisionConfig(SIZE, 4, WIDTH, 2, 2)
    text = TextConfig(VOCAB, WIDTH, 2, 2, context=CONTEXT)
    return StageSpec("clip", ClipConfig(DIM, vision, text, **changes))


def prior_spec(norm=L2, **changes):
    changes |= {"vocab_size": VOCAB} if changes.get("text") == "tokens" else {"text_dim": WIDTH}
    cfg = PriorDiffusionConfig(STACK, image_dim=DIM, context=CONTEXT, **changes)
    return StageSpec("prior_diffusion", cfg, DiffusionConfig(prediction="x0"), None, norm)


def prior_ar_spec(scanned=False, **changes):
    """An encoder of another width than the decoder, as the paper's."""
    changes |= {"vocab_size": VOCAB} if changes.get("text") == "tokens" else {"text_dim": WIDTH}
    base = {"text": "clip_states", "encoder": TransformerConfig(24, layers=1, heads=2)}
    stack = TransformerConfig(WIDTH, layers=2, heads=2, scan_layers=scanned)
    cfg = PriorArConfig(stack, CODEC, DIM, context=CONTEXT, positions=8, **(base | changes))
    return StageSpec("prior_ar", cfg, sampling=CodeSampling())


def decoder_spec(unet=UNET, norm=L2, **changes):
    if changes.get("text") == "transformer":
        changes["text_encoder"] = TextEncoderConfig(VOCAB, CONTEXT, STACK)
    base = {"text_dim": WIDTH, "text_context": CONTEXT, "context_dim": WIDTH, "image_tokens": 2}
    cfg = DecoderConfig(unet, image_dim=DIM, **(base | changes))
    return StageSpec("decoder", cfg, HYBRID, None, norm)


def upsampler_spec():
    unet = UNetConfig(
        2 * SIZE, 8, (1, 2), 1, in_channels=6, mid_attention=False, norm_groups=4, patch=2
    )
    return StageSpec("upsampler_256", UpsamplerConfig(unet, SIZE), DiffusionConfig())


def dvae_spec(**changes):
    """4 x 4 tokens of 7 codes."""
    base = {"likelihood": "l2", "res_blocks": 1, "code_width": 6}
    cfg = DvaeConfig(SIZE, 7, 8, channel_mult=(1, 2), **(base | changes))
    return StageSpec("dvae", cfg, sampling=TokenDecoding())


def dalle_spec(scanned=False):
    stack = TransformerConfig(WIDTH, layers=2, heads=2, scan_layers=scanned)
    cfg = DalleConfig(stack, dvae_spec().model, vocab_size=VOCAB, context=CONTEXT)
    return StageSpec("dalle", cfg, sampling=CodeSampling())


@functools.cache
def make(spec, seed=0):
    """Returns (module, params, jitted apply(params, *inputs))."""
    module = make_module(spec)
    apply = jax.jit(lambda params, *inputs: module.apply({"params": params}, *inputs))
    return module, redraw(abstract_params(spec), seed), apply


def stack_layers(params):
    """Turns `blocks_0`, `blocks_1`, … of one Transformer into the scanned form `blocks`."""
    names = sorted((k for k in params if k.startswith("blocks_")), key=lambda k: int(k[7:]))
    rest = {k: v for k, v in params.items() if k not in names}
    return {**rest, "blocks": jax.tree.map(lambda *xs: jnp.stack(xs), *(params[k] for k in names))}


def captions(n=2, seed=0):
    """Random caption features; caption i has 2 + i tokens, the last of them end-of-text."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, VOCAB - 1, size=(n, CONTEXT))
    lengths = 2 + np.arange(n)[:, None]
    places = np.arange(CONTEXT)[None]
    tokens = np.where(places < lengths - 1, tokens, 0) + (VOCAB - 1) * (places == lengths - 1)
    tokens = jnp.asarray(tokens, jnp.int32)
    return TextFeatures(
        text_emb=jnp.asarray(rng.normal(size=(n, DIM)), jnp.float32),
        text_states=jnp.asarray(rng.normal(size=(n, CONTEXT, WIDTH)), jnp.float32),
        text_mask=jnp.asarray(places < lengths),
        clip_tokens=tokens,
        tokens=tokens,
    )


def quick_key():
    """A key whose bits compile fast, for draws whose values do not matter."""
    return jax.random.key(0, impl="rbg")


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def decoder_inputs(n=2, seed=0):
    """(x_t, t, cond) with z_i and captions."""
    cond = Cond(image_emb=normal(n, DIM, seed=seed + 1), text=captions(n, seed))
    return normal(n, SIZE, SIZE, 3, seed=seed), jnp.arange(n) * 400 + 10, cond


def prior_inputs(n=2, seed=0):
    """(x_t, t, cond) with captions."""
    return normal(n, DIM, seed=seed), jnp.arange(n) * 400 + 10, Cond(text=captions(n, seed))


def dalle_inputs(n=2, seed=0):
    """(image tokens, t, cond) with captions."""
    tokens = np.random.default_rng(seed).integers(0, 7, size=(n, 16))
    text = TextFeatures(tokens=captions(n, seed).tokens)
    return jnp.asarray(tokens), jnp.zeros(n, jnp.int32), Cond(text=text)


def prior_ar_inputs(n=2, seed=0):
    """(codes, dot, cond) with captions."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, CODEC.buckets, size=(n, CODEC.components))
    dot = rng.integers(0, CODEC.dot_buckets, size=n)
    return jnp.asarray(codes), jnp.asarray(dot), Cond(text=captions(n, seed))
