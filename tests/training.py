"""Trainings of a few thousand weights for tests: a task, its data and its compiled step."""

import contextlib
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.networks import (
    CODEC,
    CONTEXT,
    DIM,
    SIZE,
    VOCAB,
    WIDTH,
    captions,
    clip_spec,
    dalle_spec,
    dvae_spec,
)
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.models.clip import Clip
from unclip_jax.models.decoder import DecoderConfig, TextEncoderConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.prior_ar import CodeSampling, PriorArConfig
from unclip_jax.models.prior_diffusion import PriorDiffusionConfig
from unclip_jax.models.stages import (
    StageSpec,
    abstract_params,
    init_variables,
    make_module,
    unboxed,
)
from unclip_jax.models.unet import UNetConfig
from unclip_jax.models.upsampler import UpsamplerConfig
from unclip_jax.nn.transformer import TransformerConfig
from unclip_jax.train.config import OptimConfig, TrainConfig
from unclip_jax.train.optim import make_optimizer
from unclip_jax.train.sharding import RULES
from unclip_jax.train.state import jit_once, make_state
from unclip_jax.train.step import make_train_step
from unclip_jax.train.task import StepConstants
from unclip_jax.train.tasks import make_task

BATCH = 8
NORM = EmbeddingNorm("l2", 2.0)
STACK = TransformerConfig(WIDTH, layers=1, heads=2)
OPTIM = OptimConfig(learning_rate=3e-3, ema_decay=0.9)


def unet(size, **fields):
    """One level, which compiles in seconds; the U-Net's own tests have more."""
    return UNetConfig(size, 8, (1,), 1, head_channels=8, norm_groups=4, patch=2, **fields)


def spec_of(name):
    """The spec of a stage; after a colon, one of the ways in which the paper's sizes differ."""
    if ":" in name:
        return VARIANTS[name]()
    hybrid = DiffusionConfig(variance="learned_range", loss="hybrid")
    decoder = DecoderConfig(
        unet(SIZE, out_channels=6),
        image_dim=DIM,
        context_dim=WIDTH,
        text_dim=WIDTH,
        text_context=CONTEXT,
        null_image="learned",
    )
    prior = PriorDiffusionConfig(STACK, image_dim=DIM, text_dim=WIDTH, context=CONTEXT)
    upsampler = UpsamplerConfig(unet(2 * SIZE, in_channels=6, mid_attention=False), SIZE)
    codes = PriorArConfig(
        STACK, CODEC, DIM, text="clip_states", text_dim=WIDTH, context=CONTEXT, positions=7
    )
    return {
        "clip": clip_spec(),
        "prior_ar": StageSpec("prior_ar", codes, sampling=CodeSampling()),
        "prior_diffusion": StageSpec(
            "prior_diffusion", prior, DiffusionConfig(prediction="x0"), None, NORM
        ),
        "decoder": StageSpec("decoder", decoder, hybrid, None, NORM),
        "dvae": dvae_spec(),
        "dalle": dalle_spec(),
        "upsampler_256": StageSpec("upsampler_256", upsampler, DiffusionConfig()),
        "upsampler_1024": StageSpec("upsampler_1024", upsampler, DiffusionConfig("linear")),
    }[name]


def _scanned_clip():
    return clip_spec(scan_layers=True, remat="block")


def _scanned_prior():
    stack = TransformerConfig(WIDTH, layers=2, heads=2, scan_layers=True, remat="dots")
    cfg = PriorDiffusionConfig(
        stack, image_dim=DIM, text="tokens", vocab_size=VOCAB, context=CONTEXT
    )
    return StageSpec("prior_diffusion", cfg, DiffusionConfig(prediction="x0"), None, NORM)


def _glide_decoder():
    """The caption is read by a text encoder of the decoder's own; everything rematerialised."""
    stack = TransformerConfig(WIDTH, layers=2, heads=2, scan_layers=True, remat="block")
    cfg = DecoderConfig(
        unet(SIZE, out_channels=6, attention_resolutions=(4,), remat="block"),
        image_dim=DIM,
        context_dim=WIDTH,
        text="transformer",
        text_encoder=TextEncoderConfig(VOCAB, CONTEXT, stack),
    )
    hybrid = DiffusionConfig(variance="learned_range", loss="hybrid")
    return StageSpec("decoder", cfg, hybrid, None, NORM)


VARIANTS = {
    "clip:scanned": _scanned_clip,
    "prior_diffusion:scanned": _scanned_prior,
    "decoder:glide": _glide_decoder,
}


class Toy:
    """A stage's task with random data; later stages have the module of an untrained CLIP."""

    def __init__(self, name, dtype=jnp.float32, **train):
        self.spec = spec_of(name)
        self.train = TrainConfig(**({"steps": 1000, "batch_size": BATCH} | train))
        self.module = make_module(self.spec, dtype)
        self.constants = StepConstants()
        self.clip = self._clip(dtype) if self.spec.row.needs_clip else None
        self.task = make_task(self.spec, self.module, self.train, self.clip)
        params, fitted = abstract_params(self.spec), self.spec.fitted_names
        self.tx = make_optimizer(OPTIM, params, fitted, self.train.steps)
        self.count = len(self.task.metric_names) + 1

    def _clip(self, dtype):
        spec = spec_of("clip")
        module = Clip(spec.model, dtype)
        text = jax.tree.map(lambda x: x[:1], captions(1, seed=9))
        empty = text if self.reads_own_tokens else text.replace(tokens=None)
        other = self.spec.frozen
        frozen = None if other is None else fresh_params(other, make_module(other), 8)
        self.constants = StepConstants(fresh_params(spec, module, 7), empty, frozen)
        return module

    @property
    def reads_own_tokens(self):
        return self.spec.model.own_context is not None

    def params(self, seed=0):
        return fresh_params(self.spec, self.module, seed)

    def state(self, seed=0):
        return jax.jit(lambda p: make_state(p, self.tx, self.count))(self.params(seed))

    def batch(self, seed=0):
        rng = np.random.default_rng(seed)
        side = 2 * SIZE if self.spec.stage.startswith("upsampler") else SIZE
        text = captions(BATCH, seed)
        values = {
            "image": rng.integers(0, 256, (BATCH, side, side, 3), np.uint8),
            "low_res": rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8),
            "own_tokens": np.asarray(text.tokens),
            "tokens": np.asarray(text.clip_tokens),
            "mask": np.asarray(text.text_mask),
        }
        left_out = set() if self.reads_own_tokens else {"own_tokens"}
        if self.spec.stage != "upsampler_1024":
            left_out.add("low_res")  # computed from the image on the device
        names = set(self.task.batch_keys) - left_out
        return {k: jnp.asarray(v) for k, v in values.items() if k in names}

    def step(self, optim=OPTIM):
        """The compiled step (state, constants, batch) -> (state, logged)."""
        return jax.jit(make_train_step(self.task, self.tx, self.train, optim, 0), donate_argnums=0)


@functools.cache
def toy(stage, **train):
    return Toy(stage, **train)


def fresh_params(spec, module, seed):
    init = jit_once(lambda key: unboxed(init_variables(spec, module, key)))
    return init(jax.random.key(seed))


@contextlib.contextmanager
def on_mesh(mesh):
    """Enters a mesh with the table of axes, as a run does."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        yield


def to_double(images):
    """`data.images.to_float`, in float64."""
    return images.astype(np.float64) / 127.5 - 1.0


@contextlib.contextmanager
def double_precision(monkeypatch):
    """Makes float64 of everything, what networks and images pin to float32 included."""
    with jax.enable_x64(True):
        monkeypatch.setattr(jnp, "float32", jnp.float64)
        for module in ("tasks.clip", "tasks.diffusion", "frozen_clip"):
            monkeypatch.setattr(f"unclip_jax.train.{module}.to_float", to_double)
        yield


def as_double(tree):
    widen = lambda x: x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x  # noqa: E731
    return jax.tree.map(lambda x: widen(np.asarray(x)), tree)


def largest_difference(a, b):
    """Of two trees, relative to the largest entry of a leaf."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(
        float(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max())
        / max(float(np.abs(np.asarray(x)).max()), 1e-30)
        for x, y in pairs
    )
