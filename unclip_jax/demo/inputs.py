"""Images that visitors send: read from the page's own folder only, decoded, and shrunk at once.

A visitor's record of a file is a claim, and gradio checks it only if it has gradio's mark. So every
path is checked here, before anything is asked of the file system: what lies outside of the folder
of uploads and results is never touched, and whatever cannot be used is refused in the same words.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from unclip_jax.core.errors import UserError
from unclip_jax.data.images import FILE_LIMIT, decode, decode_opaque
from unclip_jax.workflows.image_commands import Pixels
from unclip_jax.workflows.images import MIN_SIDE

MOST_PAINTINGS, MOST_LAYERS = 8, 8  # that are sent ahead and kept
NO_UPLOAD = "the image is not an upload of this page; upload it as a file"
LONGEST_SIDE = 1024  # pixels; several times what any network sees
RESULTS = "run-"  # what the names of the folders of results begin with


def pixels_of(sent: object, folder: Path) -> Pixels | None:
    """Decodes an upload, upright, on white; one longer than LONGEST_SIDE is shrunk.

    Args:
        sent: gradio's record of a file, or its bytes; None without an image.
        folder: that all uploads and results lie in.
    """
    if sent is None:
        return None
    pixels = decode(_contents(sent, folder), longest=LONGEST_SIDE)
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise UserError(f"the image is too small; at least {MIN_SIDE} pixels a side are needed")
    return pixels


def painting_of(
    sent: object, blobs: dict[str, Any], folder: Path
) -> tuple[Pixels, Bool[np.ndarray, "h w"]] | None:
    """Decodes an image that is painted on: the image, and where it is painted.

    Args:
        sent: what gr.ImageEditor sends; None without an image.
        blobs: of the editor, whose page sends the layers ahead.
        folder: that all uploads and results lie in.
    """
    if sent is None:
        return None
    if not isinstance(sent, Mapping):
        raise UserError(NO_UPLOAD)
    if sent.get("id") is not None:
        blob = blobs.pop(str(sent["id"]), None)
        sent = {} if blob is None else blob.model_dump()
    pixels = pixels_of(sent.get("background"), folder)
    if pixels is None:
        return None
    mask = np.zeros(pixels.shape[:2], bool)
    for layer in sent.get("layers") or ():
        if layer is None:
            continue
        painted = decode_opaque(_contents(layer, folder), longest=LONGEST_SIDE)
        if painted.shape != mask.shape:
            raise UserError("image and painting differ in size; upload the image again")
        mask |= painted
    return pixels, mask


class Paintings(dict[str, Any]):
    """The layers that pages have sent ahead; the oldest are dropped once there are many."""

    def __setitem__(self, name: str, blobs: Any) -> None:
        """Keeps the layers of a painting."""
        super().__setitem__(name, blobs)
        while len(self) > MOST_PAINTINGS:
            del self[next(iter(self))]


def is_layer(index: Any) -> bool:
    """Whether a layer that is sent ahead has a number that is not out of range, or none."""
    return index in (None, "", "null") or str(index) in map(str, range(MOST_LAYERS))


def _contents(sent: object, folder: Path) -> bytes:
    """Returns the bytes of an upload: themselves, or those of its file."""
    if isinstance(sent, bytes):
        return sent
    path = sent.get("path") if isinstance(sent, Mapping) else None
    if not isinstance(path, str):
        raise UserError(NO_UPLOAD)
    return read_upload(path, folder)


def read_upload(path: str, folder: Path) -> bytes:
    """Reads a regular file of a folder.

    Raises:
        UserError: the path lies elsewhere, a link is in it, or it is no file that can be read. All
            say the same, so that nobody learns what the server has.
    """
    try:
        inside = named_inside(path, folder)
        if inside is None or inside.resolve(strict=True) != inside:
            raise OSError  # a link
        data = _read_regular(inside)
    except (OSError, ValueError, RuntimeError):
        raise UserError(NO_UPLOAD) from None
    if len(data) > FILE_LIMIT:
        raise UserError(f"the image has more than {FILE_LIMIT / 2**20:.0f} MiB")
    return data


def _read_regular(path: Path) -> bytes:
    """Reads a file unless it is a link, a device or a pipe, which might never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError
        return file.read(FILE_LIMIT + 1)


def named_inside(path: str, folder: Path) -> Path | None:
    """Returns a path below the real folder; None if it leads elsewhere. Looks at the name only."""
    named, real = os.path.abspath(path), folder.resolve()
    for start in (folder.absolute(), real):
        if Path(named).is_relative_to(start) and "\0" not in named:
            return real / Path(named).relative_to(start)
    return None


def is_foreign(value: Any, folder: Path) -> bool:
    """Whether a value has the record of a file that is not named inside a folder."""
    if isinstance(value, Mapping):
        path = value.get("path")
        if path is not None and (not isinstance(path, str) or named_inside(path, folder) is None):
            return True
        return any(is_foreign(inner, folder) for inner in value.values())
    return isinstance(value, list | tuple) and any(is_foreign(inner, folder) for inner in value)


def is_result(path: str, folder: Path) -> bool:
    """Whether a path is that of a finished image; previews lie elsewhere."""
    inside = named_inside(path, folder)
    if inside is None:
        return False
    parts = inside.relative_to(folder.resolve()).parts
    return len(parts) == 2 and parts[0].startswith(RESULTS)
