"""The recorded toy Karlo: its arrays, and its folder as diffusers saved it."""

import functools
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "karlo.npz"


@functools.cache
def recorded():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def unpack(folder):
    """Writes the recorded files into a folder."""
    for name, data in recorded().items():
        if name.startswith("file/"):
            path = folder / name.removeprefix("file/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.tobytes())
    return folder
