"""Results of long work on many images, kept in chunks: a run that was killed continues from them.

A chunk is an .npz file that appears whole. Several processes share a folder: each makes its own
chunks, process 0 waits for all of them and reads them in order, so that the sums are those of one
process. What a chunk holds depends on its number only: a rerun gives the same bits.
"""

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unclip_jax.core.files import whole_file

Arrays = dict[str, np.ndarray]

FORMAT = 1  # of the chunks; another one is another folder
POLL = 0.2  # seconds between looks for the chunks of other processes


class Chunks:
    """Arrays by the name of a set and the number of a chunk.

    Attributes:
        folder: where they are kept; None keeps them in memory.
    """

    def __init__(self, parent: Path | None, settings: Mapping[str, Any]):
        """Opens the chunks that were made with these settings.

        Args:
            parent: folder of the chunks of all settings; None keeps them in memory.
            settings: everything that the arrays depend on, as JSON values.
        """
        self.folder = None if parent is None else parent / fingerprint(settings)
        self._kept: dict[str, Arrays] = {}

    def fill(self, name: str, count: int, make: Callable[[int], Arrays]) -> None:
        """Makes the missing chunks 0 … count - 1 of a set that are this process's to make."""
        for number in range(count):
            if number % jax.process_count() != jax.process_index():
                continue
            if self._read(name, number) is None:
                self._write(name, number, make(number))

    def read_all(self, name: str, count: int) -> Iterator[Arrays]:
        """Yields the chunks in order; waits for those that other processes are making.

        A job that loses a process ends by itself.
        """
        for number in range(count):
            while (found := self._read(name, number)) is None:
                if jax.process_count() == 1:
                    raise FileNotFoundError(self._path(name, number))
                time.sleep(POLL)
            yield found

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number:05d}.npz"

    def _read(self, name: str, number: int) -> Arrays | None:
        """Returns a chunk; None if it is missing, or damaged by a machine that went down."""
        if self.folder is None:
            return self._kept.get(f"{name}-{number}")
        try:
            with self._path(name, number).open("rb") as file:
                with np.load(file, allow_pickle=False) as found:
                    return dict(found)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def _write(self, name: str, number: int, arrays: Arrays) -> None:
        if self.folder is None:
            self._kept[f"{name}-{number}"] = arrays
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path(name, number)) as part, part.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Returns a hash of the settings and of the chunks' format."""
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
