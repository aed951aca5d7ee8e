"""The emoji data set: each concept in up to eight drawn styles, with captions and leak-free splits.

Drawings come from npm packages, names from emojibase. No skin tones. Some things are there in
further colors too (recolor.py). Concepts are grouped by code point with tone and gender stripped,
so that "woman judge" is never in training while "man judge" is held out.
"""

import dataclasses
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import resvg_py
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.core.hashing import hash_share
from unclip_jax.data import images
from unclip_jax.data.sets import captions as captions_lib
from unclip_jax.data.sets import iconify, npm, recolor
from unclip_jax.data.sets.packages import NAMED_ALONE, NAMES, PACKAGES, STYLES

HELD_OUT = 0.08  # share of concepts, and of the others' concept x style cells

_SHORTCODES = ("emojibase", "github")
_COMPONENT_GROUP = 2  # emojibase's group of skin tones and hair
_PERSON = {"1f468": "1f9d1", "1f469": "1f9d1", "1f466": "1f9d2", "1f467": "1f9d2"}
_PERSON |= {"1f474": "1f9d3", "1f475": "1f9d3", "1f478": "1fac5", "1f934": "1fac5"}
_PERSON |= {"1f936": "1f385", "1f483": "1f57a", "1f46b": "1f46d", "1f46c": "1f46d"}
_PERSON |= {"1f930": "1fac4", "1fac3": "1fac4"}
_TONE = re.compile(r"1f3f[b-f]")
_GENDER_SIGNS = ("2640", "2642")


@dataclasses.dataclass(frozen=True)
class Name:
    """The entry of one emoji in emojibase."""

    code: str
    label: str
    category: str
    tags: tuple[str, ...]
    shortcodes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One emoji in one style, not yet rendered.

    Attributes:
        key: style and code points, and the color of a recolored one: "flat/1f697/blue".
        concept: what splits are grouped by.
        data: an SVG, WebP or PNG.
        color: the color to draw it in, a key of recolor.COLORS; "" as it is.
        main: the main color that `color` replaces.
    """

    key: str
    name: Name
    concept: str
    style: str
    captions: tuple[str, ...]
    data: bytes
    color: str = ""
    main: recolor.MainColor | None = None

    @property
    def category(self) -> str:
        """That of its name."""
        return self.name.category

    def render(self, size: int) -> bytes:
        """Renders a square PNG on white; vectors at `size`, bitmaps at their own size."""
        png = self._render_as_drawn(size)
        if self.main is None:
            return png
        return images.encode_png(recolor.recolor(images.decode(png), self.main, self.color))

    def _render_as_drawn(self, size: int) -> bytes:
        if self.data[:4] == b"RIFF" or self.data[:4] == b"\x89PNG":
            pixels = images.decode(self.data)
        else:
            png = render_svg(self.data.decode("utf-8"), size)
            with Image.open(io.BytesIO(png)) as header:
                if header.size == (size, size):
                    return png
            pixels = images.decode(png)
        return images.encode_png(images.to_square(pixels, max(pixels.shape[:2]), crop="pad"))


def render_svg(svg: str, size: int) -> bytes:
    """Renders an SVG on white as PNG, `size` pixels wide."""
    try:
        return bytes(
            resvg_py.svg_to_bytes(
                svg_string=svg, width=size, background="white", skip_system_fonts=True
            )
        )
    except ValueError as error:
        raise UserError(f"not a drawable SVG: {error}") from error


def normal_code(code: str) -> str:
    """Normalizes a code-point sequence: lower case, four digits, no FE0F."""
    points = code.lower().replace("_", "-").split("-")
    return "-".join(f"{int(p, 16):04x}" for p in points if p != "fe0f")


def concept_code(code: str) -> str:
    """Strips skin tone and gender from a normalized code; splits are grouped by the result."""
    points = [_PERSON.get(p, p) for p in code.split("-") if not _TONE.fullmatch(p)]
    points = [p for p in points if p not in _GENDER_SIGNS]
    while points and points[-1] == "200d":
        points.pop()
    return re.sub(r"(200d-)+200d", "200d", "-".join(points))


def collect(tarballs: Mapping[str, Path]) -> list[Drawing]:
    """Matches drawings to names by code point and writes their captions.

    Args:
        tarballs: tarball of each style, and that of emojibase under "names".
    """
    names = read_names(tarballs["names"])
    own_labels = {name.label for name in names.values()}
    other_names = _other_names(names, own_labels)
    nouns = captions_lib.recolored_things()
    files = {s: read_drawings(s, tarballs[s], names) for s in STYLES if s in tarballs}
    labels: dict[str, str] = {}
    for name in sorted(names.values(), key=lambda n: (n.code.count("-"), n.code)):
        group = concept_code(name.code)
        labels.setdefault(group, names[group].label if group in names else name.label)
    drawings = []
    for style, by_code in files.items():
        for code, name in names.items():
            if code not in by_code:
                continue
            lines = captions_lib.make_captions(
                name.label, style=style, other_names=other_names[code], tags=name.tags
            )
            lines += _shortcode_captions(name, own_labels, lines)
            concept = labels[concept_code(code)]
            drawing = Drawing(f"{style}/{code}", name, concept, style, lines, by_code[code])
            noun = nouns.get(name.label)
            drawings += [drawing] if noun is None else in_colors(drawing, noun)
    return drawings


def in_colors(drawing: Drawing, noun: str) -> list[Drawing]:
    """Returns a drawing and, if it has a main color, the same in the other colors.

    If its main color has a name, the drawing gets captions with it, "a red car".

    Args:
        noun: what these captions call the thing.
    """
    try:
        main = recolor.main_color(images.decode(drawing.render(64)))
    except UserError:  # not drawable: rendering reports it
        main = None
    if main is None:
        return [drawing]
    if main.name:
        own = captions_lib.color_captions(noun, main.name, style=drawing.style)
        lines = tuple(dict.fromkeys(drawing.captions + own))
        drawing = dataclasses.replace(drawing, captions=lines)
    colors = [c for c in recolor.COLORS if c != main.name]
    return [drawing] + [
        dataclasses.replace(
            drawing,
            key=f"{drawing.key}/{color}",
            name=dataclasses.replace(drawing.name, category=captions_lib.RECOLORED),
            concept=f"{color} {drawing.concept}",
            captions=captions_lib.color_captions(noun, color, style=drawing.style),
            color=color,
            main=main,
        )
        for color in colors
    ]


def read_names(tarball: Path) -> dict[str, Name]:
    """Reads emojibase's English names: normalized code -> Name, without skin tones."""
    wanted = ["en/data.json", "en/messages.json"]
    wanted += [f"en/shortcodes/{s}.json" for s in _SHORTCODES]
    files = {k: json.loads(v) for k, v in npm.read_tarball(tarball, wanted.__contains__).items()}
    if "en/data.json" not in files:
        raise UserError(f"{tarball} has no en/data.json; it is not emojibase-data")
    subgroups = {
        g["order"]: g["key"] for g in files.get("en/messages.json", {}).get("subgroups", ())
    }
    names = {}
    for entry in files["en/data.json"]:
        if entry.get("group") in (None, _COMPONENT_GROUP):
            continue
        codes: list[str] = []
        for source in _SHORTCODES:
            found = files.get(f"en/shortcodes/{source}.json", {}).get(entry["hexcode"], ())
            codes += [found] if isinstance(found, str) else found
        code = normal_code(entry["hexcode"])
        category = subgroups.get(entry.get("subgroup"), str(entry["group"]))
        tags = tuple(t for t in entry.get("tags", ()) if t.isascii())
        names[code] = Name(code, entry["label"], category, tags, tuple(dict.fromkeys(codes)))
    return names


def read_drawings(style: str, tarball: Path, names: Mapping[str, Name]) -> dict[str, bytes]:
    """Reads the drawings of a style: normalized code -> SVG or WebP bytes.

    Args:
        style: a key of PACKAGES.
        tarball: its package.
        names: of all emoji, by which sets without code points are read.
    """
    if style == "noto":
        return {normal_code(code): svg for code, svg in iconify.read_by_code(tarball).items()}
    if style in NAMED_ALONE:
        labels = {name.label for name in names.values()}
        own = {
            name.code: (
                name.label,
                *(c for c in name.shortcodes if c.replace("_", " ") not in labels),
            )
            for name in names.values()
        }
        return iconify.read_by_name(tarball, own)
    members = npm.read_tarball(tarball, lambda name: name.endswith((".svg", ".webp", ".png")))
    drawings = {}
    for name, data in members.items():
        stem = Path(name).stem
        if re.fullmatch(r"[0-9a-f]+([-_][0-9a-f]+)*", stem):
            drawings[normal_code(stem)] = data
    return drawings


def assign_splits(
    cells: Iterable[tuple[str, str]], pinned: Iterable[str] = (), everyday: Iterable[str] = ()
) -> dict:
    """Assigns every (concept, style) cell to a split, by hash alone.

    About 8% of the concepts go to "test_concepts" in all styles, but no everyday one: those are
    what people ask for first. Of the others' cells about 8% go to "test_combinations"; at least one
    style of each concept, and all of a pinned one, stays in "train".
    """
    styles = defaultdict(list)
    for concept, style in sorted(set(cells)):
        styles[concept].append(style)
    pinned, splits = frozenset(pinned), {}
    never_whole = pinned | frozenset(everyday)
    for concept, present in styles.items():
        if concept not in never_whole and hash_share(f"concept:{concept}") < HELD_OUT:
            splits |= {(concept, style): "test_concepts" for style in present}
            continue
        ranked = sorted(present, key=lambda s: hash_share(f"cell:{concept}:{s}"))
        for place, style in enumerate(ranked):
            held = concept not in pinned and hash_share(f"cell:{concept}:{style}") < HELD_OUT
            last = place == len(ranked) - 1
            splits[concept, style] = "test_combinations" if held and not last else "train"
    return splits


def split_drawings(drawings: Iterable[Drawing]) -> dict[str, list[Drawing]]:
    """Distributes drawings over the three splits; equal drawings are in one split only.

    Twemoji draws one flag for France and for Clipperton Island. Concepts that share a drawing but
    whose hashes differ in the split stay in "train", as pinned concepts do.
    """
    drawings = list(drawings)
    plain = [d for d in drawings if not d.color]
    cells = [(d.concept, d.style) for d in plain]
    pinned, everyday = set(captions_lib.pinned_prompts()), captions_lib.everyday_concepts()
    splits = assign_splits(cells, pinned, everyday)
    while separated := _separated(plain, splits):
        pinned |= separated
        splits = assign_splits(cells, pinned, everyday)
    out: dict[str, list[Drawing]] = {"train": [], "test_concepts": [], "test_combinations": []}
    for drawing in drawings:
        out[_split(drawing, splits)].append(drawing)
    return out


def _split(drawing: Drawing, splits: Mapping[tuple[str, str], str]) -> str:
    """Returns the split of a drawing; a recolored one is never in an easier one than its original.

    Of the others about 8% of the pairs of thing and color are held out, in all styles.
    """
    if not drawing.color:
        return splits[drawing.concept, drawing.style]
    original = splits[drawing.concept.removeprefix(f"{drawing.color} "), drawing.style]
    if original == "train" and hash_share(f"color:{drawing.concept}") < HELD_OUT:
        return "test_combinations"
    return original


def licenses() -> list[dict[str, str]]:
    """Lists the packages of the data set with their licenses and credits."""
    packages = {**PACKAGES, "names": NAMES}
    return [
        {"part": part, "package": p.spec, "license": p.license, "credit": p.credit, "url": p.source}
        for part, p in packages.items()
    ]


def _separated(drawings: Iterable[Drawing], splits: Mapping[tuple[str, str], str]) -> set[str]:
    """Returns the concepts of equal drawings that are in more than one split."""
    same = defaultdict(set)
    for drawing in drawings:
        same[drawing.style, drawing.data].add((drawing.concept, drawing.style))
    return {
        concept
        for cells in same.values()
        if len({splits[cell] for cell in cells}) > 1
        for concept, _ in cells
    }


def _other_names(names: Mapping[str, Name], labels: set[str]) -> dict[str, tuple[str, ...]]:
    """Returns everyday names by code: synonyms that are no emoji's label, and plain nouns."""
    table, kinds = captions_lib.synonyms(), captions_lib.kinds()
    return {
        code: tuple(
            dict.fromkeys(
                (
                    *(o for o in table.get(name.label, ()) if o.removeprefix("~") not in labels),
                    *(kind for kind in kinds.get(name.label, ()) if kind != name.label),
                )
            )
        )
        for code, name in names.items()
    }


def _shortcode_captions(name: Name, labels: set[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Returns captions like "cool emoji" from shortcodes that are new and not another label."""
    lines = []
    for code in name.shortcodes:
        words = code.replace("_", " ")
        if len(words) < 3 or not re.fullmatch(r"[a-z ]+", words) or words in labels:
            continue
        lines.append(f"{words} emoji")
    return tuple(line for line in dict.fromkeys(lines) if line not in known)
