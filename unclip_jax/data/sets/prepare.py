"""Making the emoji set on disk: fetch, match, split, draw, write."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import is_empty_folder
from unclip_jax.data import builder
from unclip_jax.data.sets import emoji, npm

ABOUT = """Emoji in up to four drawn styles (3d, flat, noto, twemoji) with English captions. The
drawings are rasterised on white ground, otherwise unchanged; no skin tones. test_concepts holds
about 8% of the concepts in every style, test_combinations about 8% of the other concepts' styles.
Concepts are grouped by code point with tone and gender stripped; no drawing is in two splits."""

Report = Callable[[int, int], None]


def prepare_emoji(
    out: Path,
    *,
    packages: Path,
    size: int = 256,
    styles: Sequence[str] = emoji.STYLES,
    overwrite: bool = False,
    report: Report | None = None,
) -> dict:
    """Writes the emoji set into `out` and returns its statistics.

    Args:
        packages: where npm's tarballs are kept; what is there already is not fetched again.
        size: side in pixels of the styles that are vectors (3d is 256 whatever this is).
        report: called with (pictures drawn, pictures in all).
    """
    refuse_existing(out, overwrite)
    unknown = [s for s in styles if s not in emoji.STYLES]
    if unknown or not styles:
        raise UserError(f"unknown style {unknown[:1]}; there are {', '.join(emoji.STYLES)}")
    tarballs = {style: npm.fetch(emoji.PACKAGES[style], packages) for style in styles}
    tarballs["names"] = npm.fetch(emoji.NAMES, packages)
    splits = emoji.split_pictures(emoji.collect(tarballs))
    splits = {name: pictures for name, pictures in splits.items() if pictures}
    if not splits:
        raise UserError(f"no drawing in {packages} has a name; delete the folder and run again")
    drawn = _Drawn(sum(map(len, splits.values())), report)
    records = {s: functools.partial(drawn.records, p, size) for s, p in splits.items()}
    kept = [x for x in emoji.licenses() if x["part"] in tarballs]
    about = " ".join(ABOUT.split())
    builder.write(out, records, about=about, licenses=kept, overwrite=overwrite)
    counts = {
        name: dict(sorted(Counter(p.style for p in ps).items())) for name, ps in splits.items()
    }
    concepts = {name: len({p.concept for p in ps}) for name, ps in splits.items()}
    return {"folder": str(out), "images": counts, "concepts": concepts, "broken": drawn.broken}


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Stops before any work if `out` is taken, or has a name that array_record cannot open."""
    name = str(out).encode("utf-8", "backslashreplace").decode("utf-8")
    if name != str(out):
        raise UserError(f"--out {name} is not UTF-8; choose another name")
    if out.exists() and not overwrite and not is_empty_folder(out):
        raise UserError(f"{out} exists; choose another --out or pass --overwrite")


class _Drawn:
    """Draws pictures one by one, counting them and keeping the keys of those that failed."""

    def __init__(self, total: int, report: Report | None):
        self.total, self.done, self.report = total, 0, report
        self.broken: list[str] = []

    def records(self, pictures: Sequence[emoji.Picture], size: int) -> Iterator[builder.Record]:
        for picture in pictures:
            self.done += 1
            if self.report is not None:
                self.report(self.done, self.total)
            try:
                image = picture.render(size)
            except UserError:
                self.broken.append(picture.key)
                continue
            yield {
                "image": image,
                "captions": list(picture.captions),
                "concept": picture.concept,
                "style": picture.style,
                "category": picture.name.category,
                "key": picture.key,
            }
