"""Best of n by CLIP: of several images of a caption, the one that its CLIP finds nearest.

DALL·E draws 512 and keeps the best by a contrastive model (Ramesh et al. 2021, §2.6); a prior does
the same with its embeddings inside its own program.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.core.vectors import unit64
from unclip_jax.data.images import to_uint8
from unclip_jax.models.stages import CLIP
from unclip_jax.sampling.encode import encode_images
from unclip_jax.sampling.settings import decoder_stage
from unclip_jax.sampling.stage_sampler import Sampler, StageSampler


def best_of_candidates(model: Bundle, sampler: StageSampler, dtype: str) -> Sampler:
    """Returns a sampler of one result an example: the sampler itself unless it gives several.

    Raises:
        UserError: there are several image tokens to choose from and no CLIP to do it.
    """
    if sampler.gives != "image_tokens" or sampler.sampling.num_candidates == 1:
        return sampler
    if CLIP not in model.stages:
        raise UserError(
            f"bundle {model.name!r} has no CLIP to choose among num_candidates="
            f"{sampler.sampling.num_candidates}: export it with one, or set num_candidates to 1"
        )
    return BestTokens(model, sampler, dtype)


class BestTokens(Sampler):
    """Image tokens of the candidate whose image has the largest cosine to the caption."""

    def __init__(self, model: Bundle, sampler: StageSampler, dtype: str):
        """Wraps a sampler of [n, candidates, k] tokens."""
        self.gives, self.uncond_caption = sampler.gives, sampler.uncond_caption
        self._model, self._draw, self._dtype = model, sampler, dtype
        self._decode = StageSampler(model, decoder_stage(model), dtype=dtype)

    def __call__(
        self,
        cond: Cond,
        keys: Key[Array, " n"],
        latent: Array | np.ndarray | None = None,
        *,
        uncond_text: TextFeatures | None = None,
    ) -> Int[np.ndarray, "n k"]:
        """Draws all candidates of n captions and returns the best of each."""
        tokens = self._draw(cond, keys, latent, uncond_text=uncond_text)
        n, count, length = tokens.shape
        flat = Cond(image_tokens=tokens.reshape(n * count, length))
        images = to_uint8(self._decode(flat, jnp.repeat(keys, count)))
        z = encode_images(self._model, images, dtype=self._dtype).reshape(n, count, -1)
        return tokens[np.arange(n), best(z, jax.device_get(cond.text.text_emb))]


def best(
    image_emb: Float[np.ndarray, "n candidates d"], text_emb: Float[np.ndarray, "n d"]
) -> Int[np.ndarray, " n"]:
    """Returns the number of each example's candidate of the largest cosine; ties: the first."""
    n, count, width = image_emb.shape
    unit = unit64(image_emb.reshape(n * count, width)).reshape(n, count, width)
    return np.einsum("ncd,nd->nc", unit, unit64(np.asarray(text_emb))).argmax(1)
