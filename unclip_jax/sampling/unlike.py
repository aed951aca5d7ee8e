"""Whether an image is unlike those that a bundle was trained on.

Its CLIP cannot tell: 400 held-out drawings, 31 photos, noise and gradients lie equally far from the
mean of the embeddings in every number of principal components (Mahalanobis distances 0.9 to 1.1 of
one another), as the contrastive loss spreads whatever it is given over the sphere. What sets the
emoji set apart is seen in the pixels: its drawings stand on white ground and are flat. Thresholds
(64 pixels, squashed) were set on the set's own splits and such images: below 1.5% of 1,200 drawings
and 98% of photo crops, all noise, gradients and full colors are called unlike.
"""

import numpy as np
from jaxtyping import UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.data.images import to_square
from unclip_jax.sampling.prompts import is_of_emoji

SIDE = 64
WHITE = 240  # the least of a pixel's channels
LEAST_WHITE = 0.05  # of all pixels
LEAST_WHITE_BORDER, LEAST_FLAT = 0.3, 0.5  # of the outermost pixels; of neighbors
SAME = 2  # levels that neighbors of one flat area differ by at most


def is_unlike_training(model: Bundle, image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether an image is nothing like the bundle's training set; False where none is known."""
    return is_of_emoji(model) and not is_drawing(image)


def is_drawing(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether an image has the white ground and the flat areas of the emoji set's drawings."""
    pixels = to_square(image, SIDE, crop="squash").astype(np.int16)
    white = pixels.min(axis=-1) >= WHITE
    border = np.concatenate([white[0], white[-1], white[1:-1, 0], white[1:-1, -1]])
    flat = np.abs(np.diff(pixels, axis=1)).max(axis=-1) <= SAME
    on_white = border.mean() >= LEAST_WHITE_BORDER
    return bool(white.mean() >= LEAST_WHITE and (on_white or flat.mean() >= LEAST_FLAT))
