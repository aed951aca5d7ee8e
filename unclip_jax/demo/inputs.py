"""Images that visitors send: decoded within the limits of data/images.py.

Gradio has checked that their files are uploads; nothing else is known of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from unclip_jax.core.errors import UserError
from unclip_jax.data.images import decode, decode_opaque, read_bytes
from unclip_jax.workflows.image_commands import Pixels
from unclip_jax.workflows.images import MIN_SIDE

Sent = Mapping[str, Any] | bytes
"""An upload: gradio's record of a file, or its bytes."""


def pixels_of(sent: Sent | None) -> Pixels | None:
    """Decodes an upload, upright, on white."""
    if sent is None:
        return None
    pixels = decode(_contents(sent))
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise UserError(f"the image is too small; at least {MIN_SIDE} pixels a side are needed")
    return pixels


def painting_of(
    sent: Mapping[str, Any] | None, blobs: dict[str, Any]
) -> tuple[Pixels, Bool[np.ndarray, "h w"]] | None:
    """Decodes an image that is painted on: the image, and where it is painted.

    Args:
        sent: what gr.ImageEditor sends; None without an image.
        blobs: of the editor, whose page sends the layers ahead.
    """
    if sent is None:
        return None
    if sent.get("id") is not None:
        blob = blobs.pop(sent["id"], None)
        sent = {} if blob is None else blob.model_dump()
    pixels = pixels_of(sent.get("background"))
    if pixels is None:
        return None
    mask = np.zeros(pixels.shape[:2], bool)
    for layer in sent.get("layers") or ():
        if layer is None:
            continue
        painted = decode_opaque(_contents(layer))
        if painted.shape != mask.shape:
            raise UserError("image and painting differ in size; upload the image again")
        mask |= painted
    return pixels, mask


def _contents(sent: Sent) -> bytes:
    """Returns the bytes of an upload: themselves, or those of its file."""
    if isinstance(sent, bytes):
        return sent
    if not isinstance(sent, Mapping) or not isinstance(sent.get("path"), str):
        raise UserError("the image is missing; upload it as a file")
    return read_bytes(Path(sent["path"]))
