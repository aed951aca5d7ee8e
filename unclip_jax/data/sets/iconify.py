"""Reads icon sets in Iconify's form: one JSON of SVG bodies, by code point or by name."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import npm


def read_by_code(tarball: Path) -> dict[str, bytes]:
    """Returns the icons of a set that lists code points: code point as listed -> SVG."""
    icons, chars = _read(tarball, "icons.json", "chars.json")
    return {code: svg for code, name in chars.items() if (svg := _svg(icons, name)) is not None}


def read_by_name(tarball: Path, wanted: Mapping[str, Iterable[str]]) -> dict[str, bytes]:
    """Returns the icons of a set by their names.

    Args:
        tarball: the set.
        wanted: key -> the names that its icon may have, the best first. Names are compared without
            case, spaces and punctuation. Of two keys with the same name the one that has it first
            in its list takes the icon.
    """
    (icons,) = _read(tarball, "icons.json")
    by_name: dict[str, str] = {}
    for name in [*icons["icons"], *icons.get("aliases", {})]:
        by_name.setdefault(squashed(name), name)
    ranks = [
        (rank, key, by_name[squashed(name)])
        for key, names in wanted.items()
        for rank, name in enumerate(names)
        if squashed(name) in by_name
    ]
    found: dict[str, bytes] = {}
    taken: set[str] = set()
    for _, key, name in sorted(ranks):
        svg = _svg(icons, name)
        if svg is not None and key not in found and name not in taken:
            found[key] = svg
            taken.add(name)
    return found


def squashed(name: str) -> str:
    """Returns the letters and digits of a name, lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read(tarball: Path, *members: str) -> list[dict]:
    files = npm.read_tarball(tarball, members.__contains__)
    if len(files) != len(members):
        raise UserError(f"{tarball} has no {' or '.join(members)}; it is not an Iconify set")
    return [json.loads(files[member]) for member in members]


def _svg(icons: dict, name: str) -> bytes | None:
    """Returns an icon's SVG; None for an unknown name, and for an alias that changes the icon."""
    alias = icons.get("aliases", {}).get(name)
    if alias is not None and set(alias) <= {"parent", "hidden"}:
        name = alias["parent"]
    if name not in icons["icons"]:
        return None
    icon = icons["icons"][name]
    width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" height="{height}">{icon["body"]}</svg>'
    ).encode()
