"""Image embeddings made by a prior, given to a decoder in training in place of some true ones.

At sampling a decoder gets what the prior makes of a caption, which is not what it was trained on
(ours; unCLIP trains on true embeddings alone). Which examples get one, and which of the caption's
samples, depends on the run's seed and the example's number, so a resumed run has the same.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32

from unclip_jax.checkpoint.prior_samples import PriorSamples

_MASK = 2**64 - 1
_SAMPLED = 0x5052494F52  # sets these draws' keys apart from the pipeline's


@dataclasses.dataclass(frozen=True)
class SampledEmbeddings:
    """Exchanges the z_i of a share of the examples for a sample of the prior."""

    samples: PriorSamples
    share: float
    seed: int

    def mixed(self, batch: Mapping[str, np.ndarray]) -> Float32[np.ndarray, "b d"]:
        """Returns z_i of a batch with `image_emb`, `tokens` and `index`."""
        rows = self.samples.rows(batch["tokens"])
        taken = np.array(batch["image_emb"], np.float32)
        draws = np.stack([self._draw(int(number)) for number in batch["index"]])
        chosen = draws[:, 0] < self.share
        pick = (draws[:, 1] * self.samples.image_emb.shape[1]).astype(np.int64)
        taken[chosen] = self.samples.image_emb[rows[chosen], pick[chosen]]
        return taken

    def _draw(self, number: int) -> np.ndarray:
        key = [(self.seed ^ _SAMPLED) & _MASK, number]
        return np.random.Generator(np.random.Philox(key=key)).random(2)
