"""Bringing other people's sets into our form: whatever readers.py reads, as array_record.

Every image is looked at once. What is broken or has no caption is left out, counted and named, and
never ends the reading; the rest is written with the images' own bytes.
"""

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from unclip_jax.core.errors import UserError, one_line, shorten
from unclip_jax.core.locks import locked_beside
from unclip_jax.data import builder, images
from unclip_jax.data.readers import Item, Reader, open_reader, printable
from unclip_jax.data.sets.prepare import refuse_existing

Report = Callable[[str, int, int | None], None]

ASPECT_LIMIT = 20  # longer side to shorter; beyond it the square that is trained on shows nothing
NAMED = 10  # of each kind of what is left out
_LONGEST = 200  # characters of a name, and of what is wrong with it


def ingest(
    source: str,
    out: Path,
    *,
    test_share: float = 0.02,
    license: str = "unknown",
    overwrite: bool = False,
    report: Report | None = None,
) -> dict:
    """Reads `source` and writes it into `out`; returns what was kept and what was left out.

    Args:
        source: a tar, a folder of tars or of images with .txt beside them, a list of images and
            captions (.csv, .tsv, .jsonl, .parquet), a pattern of such files (`*`, {000..127}), a
            prepared tfds folder, or "tfds:NAME", "tfds:NAME:SPLIT".
        test_share: share held out as split "test", by hash of the key; at least one of two or more
            images; 0 holds nothing out.
        license: what the set may be used for, kept in its metadata.
        report: called with what is done, "checking" or "writing", and how many items of how many;
            None, where nobody knows yet.
    """
    if not 0 <= test_share < 1:  # NaN included
        raise UserError(f"--test-share {test_share} is not at least 0 and below 1")
    if printable(license) != license:
        raise UserError(f"--license {printable(license)} is not UTF-8 text; spell it so")
    _refuse_shadow(source, out)
    refuse_existing(out, overwrite)
    with locked_beside(out, "unclip data ingest"):
        reader = open_reader(source)
        left = LeftOut()
        keys = _check(reader, left, report)
        if not keys:
            raise UserError(f"no usable captioned image in {source}: {left}")
        held_out = frozenset(k for k in keys if _share(k) < test_share)
        if not held_out and test_share and len(keys) > 1:  # of a small set at least one
            held_out = frozenset([min(keys, key=_share)])
        splits: dict[str, frozenset[str]] = {
            "train": frozenset(keys) - held_out,
            "test": held_out,
        }
        written = itertools.count(1)

        def note() -> None:
            if report is not None:
                report("writing", next(written), len(keys))

        makers = {s: _records(reader, wanted, note) for s, wanted in splits.items() if wanted}
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
    sizes = {s: len(wanted) for s, wanted in splits.items() if wanted}
    named = {why: left.named[why] for why in sorted(left.named)}
    counts = dict(sorted(left.counts.items()))
    return {"folder": str(out), "images": sizes, "left_out": counts, "left_out_names": named}


def _refuse_shadow(source: str, out: Path) -> None:
    """Stops before a set is written where it would be read in place of the folder it is made of."""
    try:
        folder, wanted = Path(os.path.expanduser(source)).resolve(), Path(out).resolve()
        shadows = folder == wanted.parent and builder.is_version(wanted.name)
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return
    if shadows:
        raise UserError(f"--out {out} would be a version of {source}; choose another name for it")


class LeftOut:
    """What cannot be used: how many of each kind, and the first few by name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.named: dict[str, list[str]] = {}

    def add(self, kind: str, key: str, reason: str = "") -> None:
        """Counts one."""
        self.counts[kind] += 1
        names = self.named.setdefault(kind, [])
        if len(names) < NAMED:
            key, reason = shorten(one_line(key), _LONGEST), shorten(one_line(reason), _LONGEST)
            names.append(f"{key} ({reason})" if reason else key)

    def __str__(self) -> str:
        """Words the counts, each with its first name."""
        said = [f"{n} {why}, e.g. {self.named[why][0]}" for why, n in sorted(self.counts.items())]
        return "; ".join(said) or "nothing at all"


def _check(reader: Reader, left: LeftOut, report: Report | None) -> list[str]:
    """Looks at every item once; returns the keys to keep.

    Of several with one key the first counts, whatever it is: it is the one that `_records` finds.
    """
    keys: dict[str, bool] = {}
    with images.without_size_warning():
        for seen, item in enumerate(reader(), start=1):
            if report is not None:
                report("checking", seen, None)
            if item.fault:
                left.add(item.fault, item.key, item.reason)
            elif item.key in keys:
                left.add("duplicate keys", item.key)
            else:
                keys[item.key] = _is_usable(item, left)
    return [key for key, usable in keys.items() if usable]


def _is_usable(item: Item, left: LeftOut) -> bool:
    if not item.captions:
        left.add("without caption", item.key)
        return False
    try:
        shape = images.decode(item.image).shape[:2]
    except UserError as error:
        left.add("broken images", item.key, str(error))
        return False
    if max(shape) > ASPECT_LIMIT * min(shape):
        left.add("too long and narrow", item.key, f"{shape[1]} x {shape[0]} pixels")
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


def _share(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
