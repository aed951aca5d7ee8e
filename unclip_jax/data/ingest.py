"""Converting captioned images of any source that readers.py reads into a prepared data set.

Every image is decoded once. Images that are broken or have no caption are skipped, counted and
reported; the others are written with their original bytes.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from unclip_jax.core.errors import UserError, one_line, shorten
from unclip_jax.core.hashing import hash_share
from unclip_jax.core.locks import locked_beside
from unclip_jax.data import builder, images
from unclip_jax.data.readers import Item, Reader, open_reader, printable
from unclip_jax.data.sets.prepare import refuse_existing

Report = Callable[[str, int, int | None], None]

ASPECT_LIMIT = 20  # longer to shorter side; beyond it a square crop shows next to nothing
NAMED = 10  # skipped images that are reported by name, for each reason
_LONGEST = 200  # characters of a name or reason in the report


def ingest(
    source: str,
    out: Path,
    *,
    test_share: float = 0.02,
    license: str = "unknown",
    overwrite: bool = False,
    report: Report | None = None,
) -> dict:
    """Converts `source` into a data set in the folder `out`; returns what was kept and skipped.

    Args:
        source: a tar, a folder of tars, a folder of images with .txt files of the same names, a
            list of images and captions (.csv, .tsv, .jsonl, .parquet), a pattern of such files
            (`*`, {000..127}), a prepared tfds folder, or "tfds:NAME", "tfds:NAME:SPLIT".
        test_share: share held out as split "test", by hash of the key; at least one image if there
            are two or more; 0 holds nothing out.
        license: of the images, recorded in the metadata.
        report: called with the phase ("checking" or "writing"), the number of items done and their
            total, None if that is not known yet.
    """
    if not 0 <= test_share < 1:  # NaN included
        raise UserError(f"--test-share {test_share} is not at least 0 and below 1")
    if printable(license) != license:
        raise UserError(f"--license {printable(license)} is not UTF-8 text")
    _refuse_shadow(source, out)
    refuse_existing(out, overwrite)
    with locked_beside(out, "unclip data ingest"):
        reader = open_reader(source)
        skipped = Skipped()
        keys = _check(reader, skipped, report)
        if not keys:
            raise UserError(f"no usable captioned image in {source}: {skipped}")
        splits = _split(keys, test_share)
        written = itertools.count(1)

        def note() -> None:
            if report is not None:
                report("writing", next(written), len(keys))

        makers = {s: _records(reader, wanted, note) for s, wanted in splits.items()}
        credit = {"part": "all", "license": license, "credit": printable(source), "url": ""}
        builder.write(
            out,
            makers,
            about=f"Captioned images from {printable(source)}.",
            licenses=[credit],
            encoding=None,
            overwrite=overwrite,
            lock=False,
        )
    sizes = {s: len(wanted) for s, wanted in splits.items()}
    named = {why: skipped.named[why] for why in sorted(skipped.named)}
    counts = dict(sorted(skipped.counts.items()))
    return {"folder": str(out), "images": sizes, "left_out": counts, "left_out_names": named}


def _split(keys: list[str], test_share: float) -> dict[str, frozenset[str]]:
    """Returns the keys of each split that is not empty."""
    held_out = frozenset(k for k in keys if hash_share(k) < test_share)
    if not held_out and test_share and len(keys) > 1:  # of a small set at least one
        held_out = frozenset([min(keys, key=hash_share)])
    splits = {"train": frozenset(keys) - held_out, "test": held_out}
    return {name: members for name, members in splits.items() if members}


def _refuse_shadow(source: str, out: Path) -> None:
    """Rejects an `out` that would be read as the newest version of the source folder."""
    try:
        folder, wanted = Path(os.path.expanduser(source)).resolve(), Path(out).resolve()
        shadows = folder == wanted.parent and builder.is_version(wanted.name)
    except (OSError, ValueError):  # a name that is too long or contains a NUL
        return
    if shadows:
        raise UserError(f"--out {out} would be a version of {source}; choose another name for it")


class Skipped:
    """Items that cannot be used: the count of each kind, and the first few names."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.named: dict[str, list[str]] = {}

    def add(self, kind: str, key: str, reason: str = "") -> None:
        """Adds an item."""
        self.counts[kind] += 1
        names = self.named.setdefault(kind, [])
        if len(names) < NAMED:
            key, reason = shorten(one_line(key), _LONGEST), shorten(one_line(reason), _LONGEST)
            names.append(f"{key} ({reason})" if reason else key)

    def __str__(self) -> str:
        """Returns the counts, each with its first name."""
        parts = [f"{n} {why}, e.g. {self.named[why][0]}" for why, n in sorted(self.counts.items())]
        return "; ".join(parts) or "nothing at all"


def _check(reader: Reader, skipped: Skipped, report: Report | None) -> list[str]:
    """Checks every item; returns the keys to keep.

    Of several items with one key the first counts, usable or not: `_records` will find that one.
    """
    keys: dict[str, bool] = {}
    with images.without_size_warning():
        for seen, item in enumerate(reader(), start=1):
            if report is not None:
                report("checking", seen, None)
            if item.fault:
                skipped.add(item.fault, item.key, item.reason)
            elif item.key in keys:
                skipped.add("duplicate keys", item.key)
            else:
                keys[item.key] = _is_usable(item, skipped)
    return [key for key, usable in keys.items() if usable]


def _is_usable(item: Item, skipped: Skipped) -> bool:
    if not item.captions:
        skipped.add("without caption", item.key)
        return False
    try:
        shape = images.decode(item.image).shape[:2]
    except UserError as error:
        skipped.add("broken images", item.key, str(error))
        return False
    if max(shape) > ASPECT_LIMIT * min(shape):
        skipped.add("too long and narrow", item.key, f"{shape[1]} x {shape[0]} pixels")
        return False
    return True


def _records(
    reader: Reader, wanted: frozenset[str], note: Callable[[], None]
) -> Callable[[], Iterator[builder.Record]]:
    def make() -> Iterator[builder.Record]:
        left = set(wanted)
        for item in reader():
            if item.key in left and not item.fault:
                left.discard(item.key)
                note()
                texts = {"concept": item.concept or item.captions[0], "style": "", "category": ""}
                yield {
                    "image": item.image,
                    "captions": list(item.captions),
                    "key": item.key,
                    **texts,
                }

    return make
