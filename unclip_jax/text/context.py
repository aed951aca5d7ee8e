"""Token ids at another context length, and the mask that they imply.

Padding is id 0 and the end-of-text token (EOT) is the largest id of a row, as in CLIP. NumPy arrays
give NumPy arrays.
"""

from types import ModuleType

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


def fit_context(
    tokens: Int[Array | np.ndarray, "n long"], context: int
) -> Int[Array | np.ndarray, "n ctx"]:
    """Cuts or pads rows of token ids to another context; a row that is cut still ends with EOT.

    Ids that were cut off before do not come back.
    """
    xp, width = _numpy_of(tokens), tokens.shape[1]
    if width == context:
        return tokens
    if width < context:
        return xp.pad(tokens, ((0, 0), (0, context - width)))
    last = xp.where(tokens.argmax(-1) >= context, tokens.max(-1), tokens[:, context - 1])
    return xp.concatenate([tokens[:, : context - 1], last[:, None]], axis=1)


def until_eot(tokens: Int[Array | np.ndarray, "b n"]) -> Bool[Array | np.ndarray, "b n"]:
    """Returns the caption mask: True up to and including the end-of-text token."""
    return _numpy_of(tokens).arange(tokens.shape[1])[None] <= tokens.argmax(-1)[:, None]


def _numpy_of(tokens: Int[Array | np.ndarray, "b n"]) -> ModuleType:
    return np if isinstance(tokens, np.ndarray) else jnp
