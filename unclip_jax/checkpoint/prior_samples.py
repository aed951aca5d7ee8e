"""`prior_samples.safetensors`: image embeddings sampled from a prior for given captions.

A decoder may be trained on them as well as on the true embeddings, to close the gap between
training and sampling. Keys: tokens [n, ctx], CLIP's ids of each caption, int32; image_emb
[n, k, d], k samples per caption, float32. Metadata: "clip", the digest of the CLIP's parameters.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64
from safetensors.numpy import save_file

from unclip_jax.checkpoint.tensors import read_annotated
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import whole_file

PRIOR_SAMPLES_FILE = "prior_samples.safetensors"
REMEDY = "make one with: unclip embed --prior-draws"


@dataclasses.dataclass(frozen=True)
class PriorSamples:
    """k samples of z_i for each of n captions; `clip` is the digest of the CLIP's parameters."""

    clip: str
    tokens: Int32[np.ndarray, "n ctx"]
    image_emb: Float32[np.ndarray, "n k d"]

    @functools.cached_property
    def _row(self) -> dict[bytes, int]:
        return {ids.tobytes(): row for row, ids in enumerate(self.tokens)}

    def rows(self, tokens: Int32[np.ndarray, "b ctx"]) -> Int64[np.ndarray, " b"]:
        """Returns the rows of captions; a caption without samples is a UserError."""
        found = [self._row.get(ids.tobytes(), -1) for ids in tokens]
        if -1 in found:
            raise UserError(
                f"the prior's samples lack {found.count(-1)} of {len(found)} captions of a batch; "
                f"{REMEDY} for the data that the run is trained on"
            )
        return np.asarray(found, np.int64)


def save_prior_samples(path: Path, samples: PriorSamples) -> None:
    """Writes the file atomically."""
    arrays = {"tokens": samples.tokens, "image_emb": samples.image_emb}
    with whole_file(Path(path)) as part:
        save_file(arrays, part, {"clip": samples.clip})


def load_prior_samples(path: str | Path, clip: str) -> PriorSamples:
    """Reads and checks the file; samples for another CLIP than `clip` are a UserError."""
    arrays, about = read_annotated(path, REMEDY)
    kinds = {key: (array.dtype.name, array.ndim) for key, array in arrays.items()}
    if kinds != {"tokens": ("int32", 2), "image_emb": ("float32", 3)} or not (
        0 < len(arrays["tokens"]) == len(arrays["image_emb"]) and arrays["image_emb"].shape[1]
    ):
        raise UserError(f"{path} does not have samples of a prior; {REMEDY}")
    if about.get("clip") != clip:
        raise UserError(f"{path} was made with another CLIP than the run's; {REMEDY}")
    return PriorSamples(clip, arrays["tokens"], arrays["image_emb"])
