"""Procedural images of colored shapes and their relations, with exact captions; no download.

Example i is a function of (split, i) alone. Some combinations of color and form never occur
in "train": they are the "test" split, so that composition can be measured.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from unclip_jax.core.errors import UserError

COLORS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (245, 205, 30),
    "orange": (245, 135, 25),
    "purple": (140, 60, 190),
    "black": (30, 30, 30),
    "gray": (140, 140, 140),
}
FORMS = ("circle", "square", "triangle", "diamond", "ring", "cross", "bar", "star")
OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
_COUNTS = {"train": 10_000, "test": 1_000}
_HELD_OUT = 0.125
_SAMPLES = 3  # per pixel and axis, for smooth edges


class ShapesSource:
    """One or two colored forms on white."""

    def __init__(self, split: str = "train", *, size: int = 64, count: int | None = None):
        """Sets the split, the image size in pixels and the number of examples."""
        if split not in _COUNTS:
            raise UserError(f"shapes has no split {split!r}; it has train, test")
        self.split, self.size, self.count = split, size, count or _COUNTS[split]
        self._pairs = [p for p in all_pairs() if is_held_out(*p) == (split == "test")]

    def __len__(self) -> int:
        """Returns the number of examples."""
        return self.count

    def __getitem__(self, index: int) -> dict:
        """Renders example `index`."""
        scene = self._scene(index)
        image = np.full((self.size, self.size, 3), 255.0, np.float32)
        for color, form, center, radius in scene:
            cover = coverage(form, self.size, center, radius)[..., None]
            image = image * (1 - cover) + np.asarray(COLORS[color], np.float32) * cover
        return {"image": np.round(image).astype(np.uint8), **self._info(index, scene)}

    def info(self, index: int) -> dict:
        """Returns the metadata of example `index`."""
        return self._info(index, self._scene(index))

    def _scene(self, index: int) -> list[tuple]:
        """Draws the scene: a list of (color, form, center, radius), the subject first."""
        if not 0 <= index < self.count:
            raise IndexError(f"{index=} outside of 0..{self.count - 1}")
        rng = np.random.Generator(np.random.Philox(key=[split_id(self.split), int(index)]))
        first = self._pairs[rng.integers(len(self._pairs))]
        if rng.random() < 0.4:
            center = 0.5 + rng.uniform(-0.1, 0.1, 2)
            return [(*first, center, rng.uniform(0.25, 0.36))]
        others = [p for p in self._pairs if p != first]
        second = others[rng.integers(len(others))]
        vertical, flipped = rng.random(2) < 0.5
        near, far = 0.27 + rng.uniform(-0.03, 0.03), 0.73 + rng.uniform(-0.03, 0.03)
        ends = [far, near] if flipped else [near, far]
        across = 0.5 + rng.uniform(-0.08, 0.08, 2)
        centers = [(a, e) if vertical else (e, a) for a, e in zip(across, ends, strict=True)]
        radii = rng.uniform(0.14, 0.2, 2)
        return [(*p, c, r) for p, c, r in zip((first, second), centers, radii, strict=True)]

    def _info(self, index: int, scene: list[tuple]) -> dict:
        names = [f"a{'n' if color[0] == 'o' else ''} {color} {form}" for color, form, *_ in scene]
        if len(scene) == 1:
            captions = (names[0], f"a picture of {names[0]}", f"{names[0][2:].strip()} on white")
        else:
            where = relation(scene[0][2], scene[1][2])
            captions = (
                f"{names[0]} {where} {names[1]}",
                f"{names[1]} {OPPOSITE[where]} {names[0]}",
            )
        concept = " + ".join(f"{color} {form}" for color, form, *_ in scene)
        key = f"shapes/{self.split}/{index}"
        kind = ("one", "two")[len(scene) - 1]
        return dict(captions=captions, concept=concept, style="shapes", category=kind, key=key)


def from_name(name: str, split: str) -> ShapesSource:
    """Builds the source of "shapes" or "shapes:size=32,count=500"."""
    return ShapesSource(split, **options(name, ("size", "count")))


def options(name: str, known: Sequence[str]) -> dict[str, int]:
    """Reads "NAME:size=32,count=500", the name of a procedural source with options."""
    found = {}
    for part in filter(None, name.partition(":")[2].split(",")):
        key, _, value = part.partition("=")
        if key not in known or not value.isdigit() or int(value) < 1:
            units = {"size": "PIXELS", "count": "NUMBER", "objects": "NUMBER"}
            forms = " or ".join(f"{key}={units[key]}" for key in known)
            raise UserError(f"{name!r}: {part!r} is not {forms}")
        found[key] = int(value)
    return found


def all_pairs() -> list[tuple[str, str]]:
    """Lists all combinations of color and form."""
    return [(color, form) for color in COLORS for form in FORMS]


def is_held_out(color: str, form: str) -> bool:
    """Whether a combination is held out for "test": one in eight, every color and form once.

    They are a diagonal of the table, so that each color and each form is seen in training.
    """
    colors = list(COLORS)
    return (colors.index(color) * 3 + FORMS.index(form)) % round(1 / _HELD_OUT) == 0


def coverage(form: str, size: int, center, radius: float) -> np.ndarray:
    """Returns the share of each pixel that a form covers."""
    steps = (np.arange(size * _SAMPLES, dtype=np.float32) + 0.5) / (size * _SAMPLES)
    x = (steps[None, :] - center[0]) / radius
    y = (steps[:, None] - center[1]) / radius
    inside = np.broadcast_to(_inside(form, x, y), (size * _SAMPLES,) * 2)
    return inside.reshape(size, _SAMPLES, size, _SAMPLES).mean(axis=(1, 3), dtype=np.float32)


def _inside(form: str, x: np.ndarray, y: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Whether a point is inside the form of radius 1 at the origin; y points down."""
    radius2 = x**2 + y**2
    if form == "circle":
        return radius2 <= 1
    if form == "ring":
        return (radius2 <= 1) & (radius2 >= 0.3)
    if form == "square":
        return np.maximum(abs(x), abs(y)) <= 0.85
    if form == "diamond":
        return abs(x) + abs(y) <= 1
    if form == "bar":
        return (abs(x) <= 1) & (abs(y) <= 0.3)
    if form == "cross":
        return (np.minimum(abs(x), abs(y)) <= 0.27) & (np.maximum(abs(x), abs(y)) <= 0.95)
    if form == "triangle":
        return (y <= 0.75) & (2 * abs(x) <= y + 1.1)
    angle = np.mod(np.arctan2(x, -y) + np.pi / 5, 2 * np.pi / 5) - np.pi / 5
    return np.sqrt(radius2) * np.cos(2 * np.pi / 5 - abs(angle)) <= np.cos(2 * np.pi / 5)


def relation(subject, other) -> str:
    """Returns where the subject is, along the axis with the larger distance."""
    dx, dy = subject[0] - other[0], subject[1] - other[1]
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def split_id(split: str) -> int:
    """Returns a number that is the split's own, for the keys of its examples."""
    return int.from_bytes(hashlib.sha256(split.encode()).digest()[:7], "big")
