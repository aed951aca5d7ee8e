"""Preparing the emoji data set: fetch, match, split, render, write."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import is_empty_folder
from unclip_jax.data import builder
from unclip_jax.data.sets import emoji, npm
from unclip_jax.data.sets.pairs import Pair, with_pairs

ABOUT = """Emoji in up to eight drawn styles with English captions. The drawings are rasterized on a
white background; no skin tones. Some things are there in up to nine further colors ("a blue car"):
changed by this project, of category "recolored"; all others are unchanged. test_concepts contains
about 8% of the concepts in every style, test_combinations about 8% of the other concepts' styles
and of the pairs of thing and color. Concepts are grouped by code point with tone and gender
stripped; no drawing is in two splits."""
PAIRS = """ Images of category "pair" show two of the training drawings side by side, put together
by this project; about 8% of the pairs of things are in test_combinations."""

Report = Callable[[int, int], None]


def prepare_emoji(
    out: Path,
    *,
    packages: Path,
    size: int = 256,
    styles: Sequence[str] = emoji.STYLES,
    pairs: int = 0,
    overwrite: bool = False,
    report: Report | None = None,
) -> dict:
    """Writes the emoji data set into `out` and returns its statistics.

    Args:
        packages: folder of npm tarballs; those already there are not fetched again.
        size: side in pixels of the vector styles (3d is always 256).
        pairs: images of two things ("a cat and a dog") to make in each style.
        report: called with (images rendered, images in total).
    """
    refuse_existing(out, overwrite)
    unknown = [s for s in styles if s not in emoji.STYLES]
    if unknown or not styles:
        fault = f"unknown style {unknown[0]!r}" if unknown else "no style is given"
        raise UserError(f"{fault}; there are {', '.join(emoji.STYLES)}")
    tarballs = {style: npm.fetch(emoji.PACKAGES[style], packages) for style in styles}
    tarballs["names"] = npm.fetch(emoji.NAMES, packages)
    splits = emoji.split_drawings(emoji.collect(tarballs))
    splits = {name: drawings for name, drawings in splits.items() if drawings}
    if not splits:
        raise UserError(f"no drawing in {packages} has a name; delete the folder and run again")
    if pairs:
        splits = with_pairs(splits, pairs)
    renderer = _Renderer(sum(map(len, splits.values())), report)
    records = {s: functools.partial(renderer.records, d, size) for s, d in splits.items()}
    licenses = [x for x in emoji.licenses() if x["part"] in tarballs]
    about = " ".join((ABOUT + (PAIRS if pairs else "")).split())
    builder.write(out, records, about=about, licenses=licenses, overwrite=overwrite)
    counts = {
        name: dict(sorted(Counter(d.style for d in drawings).items()))
        for name, drawings in splits.items()
    }
    concepts = {name: len({d.concept for d in drawings}) for name, drawings in splits.items()}
    return {"folder": str(out), "images": counts, "concepts": concepts, "broken": renderer.broken}


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Rejects an `out` that exists already, or whose name array_record cannot open."""
    name = str(out).encode("utf-8", "backslashreplace").decode("utf-8")
    if name != str(out):
        raise UserError(f"--out {name} is not UTF-8; choose another name")
    if out.exists() and not overwrite and not is_empty_folder(out):
        raise UserError(f"{out} exists; choose another --out or pass --overwrite")


class _Renderer:
    """Renders drawings one by one; counts them and collects the keys of those that failed."""

    def __init__(self, total: int, report: Report | None):
        self.total, self.done, self.report = total, 0, report
        self.broken: list[str] = []

    def records(
        self, drawings: Sequence[emoji.Drawing | Pair], size: int
    ) -> Iterator[builder.Record]:
        for drawing in drawings:
            self.done += 1
            if self.report is not None:
                self.report(self.done, self.total)
            try:
                image = drawing.render(size)
            except UserError:
                self.broken.append(drawing.key)
                continue
            yield {
                "image": image,
                "captions": list(drawing.captions),
                "concept": drawing.concept,
                "style": drawing.style,
                "category": drawing.category,
                "key": drawing.key,
            }
