"""The frozen CLIP that later stages are conditioned on; its features, computed or looked up.

z_i is that of the very crop a stage sees, at CLIP's own size; text states are the frozen tower's;
neither is stored with the data. For a small set whose images are not augmented both may be computed
once, at the start, and looked up by example and by caption (`FeatureCache`). A prior may also be
trained on a store of embeddings (stores.py): batches then bring z_i, and z_t where no text states
are needed.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.core.batching import map_batches
from unclip_jax.core.prng import root_key
from unclip_jax.core.types import Params, TextFeatures
from unclip_jax.data.images import to_float
from unclip_jax.models.clip import Clip, ClipConfig, TextConfig, VisionConfig, text_features
from unclip_jax.models.pca import Pca
from unclip_jax.models.stages import (
    CLIP,
    StageSpec,
    clip_spec,
    init_variables,
    make_module,
    unboxed,
)
from unclip_jax.text.tokenizer import Tokenizer
from unclip_jax.train.resolve import RANDOM
from unclip_jax.train.state import jit_once
from unclip_jax.train.task import Batch, StepConstants

CACHE_BATCH = 64


@dataclasses.dataclass(frozen=True)
class FrozenClip:
    """A CLIP that is not trained: module, parameters and tokenizer.

    Attributes:
        pca: of its image embeddings, None if there is none.
        digest: of its parameters, by which stores, samples and PCAs name their CLIP.
    """

    module: Clip
    params: Params
    tokenizer: Tokenizer | None
    pca: Pca | None = None
    digest: str = ""

    @property
    def cfg(self) -> ClipConfig:
        """The sizes of the towers."""
        return self.module.cfg

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "n ctx"], Bool[np.ndarray, "n ctx"]]:
        """Returns token ids and mask for the text tower."""
        tokens = self.tokenizer.encode(list(texts), context=self.cfg.text.context)
        return tokens.tokens, tokens.mask

    def empty_caption(self) -> TextFeatures:
        """Returns the features of the empty caption, which replaces a dropped one."""
        tokens, mask = self.encode([""])
        return jax.jit(
            lambda p: text_features(self.module, p, jnp.asarray(tokens), jnp.asarray(mask))
        )(self.params)


def load_frozen_clip(
    name: str, tokenizer: Tokenizer | None, dtype: DTypeLike, pca_file: str = ""
) -> FrozenClip:
    """Loads the CLIP of a bundle, or initializes the untrained one (RANDOM) for `tokenizer`.

    Args:
        pca_file: PCA to use instead of the bundle's own.
    """
    if name == RANDOM:
        cfg = ClipConfig(
            embed_dim=16,
            vision=VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
            text=TextConfig(tokenizer.vocab_size, width=16, layers=1, heads=2, context=16),
        )
        spec = clip_spec(cfg)
        module = make_module(spec, dtype)
        params = unboxed(jit_once(lambda k: init_variables(spec, module, k))(root_key(0)))
        return FrozenClip(module, params, tokenizer, digest=params_digest(params))
    loaded = bundle.load(name, stages=[CLIP])
    stage = loaded.clip
    params = jax.tree.map(jnp.asarray, stage.params)
    pca = bundle.require_pca(loaded, pca_file) if pca_file else loaded.pca
    module = make_module(stage.spec, dtype)
    return FrozenClip(module, params, loaded.tokenizer, pca, params_digest(params))


def params_of(params: Params, encoders: Sequence[str]) -> Params:
    """Returns a CLIP's parameters, also abstract or boxed, without an image tower that is not run.

    Args:
        encoders: those that run: "image", "text".
    """
    return params if "image" in encoders else {k: v for k, v in params.items() if k != "vision"}


class FeatureCache:
    """CLIP features of every image of a source and of every caption, on the host.

    Text states are kept as float16, everything else as float32.
    """

    def __init__(
        self,
        clip: FrozenClip,
        images: Iterable[UInt8[np.ndarray, "h w 3"]],
        captions: Iterable[str],
        report: Callable[[str, int], None] | None = None,
    ):
        """Encodes everything, in batches of one size.

        Args:
            images: in the order of the examples' index, not augmented.
            captions: all that can occur; repeats are encoded once.
            report: called before each batch as report("images" or "captions", done).
        """
        module, params = clip.module, clip.params
        image_fn = jax.jit(
            lambda p, x: module.apply({"params": p}, to_float(x), method="encode_image")
        )
        text_fn = jax.jit(lambda p, x: module.apply({"params": p}, x, method="encode_text"))

        def encode_text(
            tokens: list[Int[np.ndarray, " n"]],
        ) -> tuple[Float[Array, "b d"], Float[Array, "b n w"]]:
            encoding = text_fn(params, np.stack(tokens))
            return encoding.text_emb, encoding.text_states.astype(jnp.float16)

        encode_image = lambda x: image_fn(params, np.stack(x))  # noqa: E731
        count = report and functools.partial(report, "images")
        self.image_emb = map_batches(encode_image, images, CACHE_BATCH, report=count)
        tokens, _ = clip.encode(sorted(set(captions)))
        count = report and functools.partial(report, "captions")
        encoded = map_batches(encode_text, tokens, CACHE_BATCH, report=count)
        self.text_emb, self.text_states = encoded
        self._row = {ids.tobytes(): i for i, ids in enumerate(tokens)}

    def features(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns image_emb, text_emb and text_states of a batch with `example` and `tokens`."""
        rows = [self._row[ids.tobytes()] for ids in batch["tokens"]]
        return {
            "image_emb": self.image_emb[batch["example"]],
            "text_emb": self.text_emb[rows],
            "text_states": self.text_states[rows].astype(np.float32),
        }


def feature_keys(spec: StageSpec) -> tuple[str, ...]:
    """Returns the batch keys of CLIP's features, and of the tokens that they are computed from.

    The text tower's states, by far the largest, are among them where the network reads them.
    """
    names = ("tokens", "mask", "own_tokens", "image_emb", "text_emb")
    return (*names, "text_states") if spec.model.reads_clip_states else names


def image_embedding(
    clip: Clip | None, constants: StepConstants, batch: Batch
) -> Float[Array | np.ndarray, "b d"]:
    """Returns z_i of the images of a batch: looked up if the batch brings it, else computed.

    The tower sees images that were loaded at its own size: "clip_image" where the stage's own have
    another. They are never resized here, least of all enlarged: z_i would be of a blurred image,
    and not the one that priors, stores and `embed_image` have.

    Args:
        clip: None where batches bring all features.
    """
    if "image_emb" in batch:
        return batch["image_emb"]
    pixels, side = batch.get("clip_image", batch.get("image")), clip.cfg.vision.image_size
    if pixels.shape[1:3] != (side, side):
        raise ValueError(
            f"images of {pixels.shape[1]} x {pixels.shape[2]} pixels for a CLIP of {side}: batches "
            "must bring them at its size"
        )
    images = to_float(pixels)
    return clip.apply({"params": constants.clip}, images, method="encode_image")


def caption_features(clip: Clip | None, constants: StepConstants, batch: Batch) -> TextFeatures:
    """Returns the captions' features: looked up if the batch brings them, else computed."""
    own = batch.get("own_tokens")
    if "text_emb" not in batch:
        return text_features(clip, constants.clip, batch["tokens"], batch["mask"], own)
    return TextFeatures(
        text_emb=batch["text_emb"],
        text_states=batch.get("text_states"),
        text_mask=batch["mask"],
        clip_tokens=batch["tokens"],
        tokens=own,
    )
