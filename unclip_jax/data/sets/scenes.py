"""Procedural scenes of one to six colored forms, big and small, with captions that list them.

Forms, colors and the combinations held out are those of data/sets/shapes.py. Example i is a
function of (split, i) alone. Two objects stand in a relation; three and more stand in a grid and
are listed in reading order, as a caption would name them.
"""

import numpy as np
from jaxtyping import UInt8

from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import shapes

MOST = 6
SPLITS = {"train": 20_000, "test": 2_000}
_SHARES = {1: 3, 2: 7, 3: 3, 4: 3, 5: 2, 6: 2}  # how often a scene has so many objects
_CELLS = {1: (1, 1), 2: (2, 2), 3: (2, 2), 4: (2, 2), 5: (3, 2), 6: (3, 2)}
"""Columns and rows of the grid for a number of objects."""
_RADII = {1: ((0.18, 0.22), (0.27, 0.34)), 2: ((0.12, 0.14), (0.18, 0.2))}
_RADIUS_OF_MANY = (0.13, 0.142)  # five or six in 32 pixels: no smaller one can be read back
SIZES = ("small", "big")


class ScenesSource:
    """One to six forms on white; the combinations of the other split never occur."""

    def __init__(
        self,
        split: str = "train",
        *,
        size: int = 32,
        count: int | None = None,
        objects: int | None = None,
    ):
        """Sets the split, the image size in pixels and the number of examples.

        Args:
            objects: of every scene, 1 to 6; None draws their number.
        """
        if split not in SPLITS:
            raise UserError(f"scenes has no split {split!r}; it has train, test")
        if objects is not None and not 1 <= objects <= MOST:
            raise UserError(f"scenes have 1 to {MOST} objects, not {objects}")
        self.split, self.size, self.objects = split, size, objects
        self.count = count or SPLITS[split]
        pairs = shapes.all_pairs()
        self._pairs = [p for p in pairs if shapes.is_held_out(*p) == (split == "test")]

    def __len__(self) -> int:
        """Returns the number of examples."""
        return self.count

    def __getitem__(self, index: int) -> dict:
        """Renders example `index`."""
        scene = self.scene(index)
        drawn = [(color, form, center, radius) for _, color, form, center, radius in scene]
        return {"image": draw(drawn, self.size), **self._info(index, scene)}

    def info(self, index: int) -> dict:
        """Returns the metadata of example `index`."""
        return self._info(index, self.scene(index))

    def scene(self, index: int) -> list[tuple]:
        """Draws the scene: a list of (size, color, form, center, radius), as captions name them.

        Objects of a scene of five or six have one size, "".
        """
        if not 0 <= index < self.count:
            raise IndexError(f"{index=} outside of 0..{self.count - 1}")
        rng = np.random.Generator(np.random.Philox(key=[_key(self.split), int(index)]))
        weights = np.asarray(list(_SHARES.values()), np.float64)
        number = self.objects or 1 + int(rng.choice(MOST, p=weights / weights.sum()))
        chosen = rng.permutation(len(self._pairs))[:number]
        parts = []
        for i, center in zip(chosen, _centers(number, rng), strict=True):
            named = int(rng.integers(2))
            low, high = _RADIUS_OF_MANY if number > 4 else _RADII[min(number, 2)][named]
            size = SIZES[named] if number <= 4 else ""
            parts.append((size, *self._pairs[i], center, rng.uniform(low, high)))
        return parts

    def _info(self, index: int, scene: list[tuple]) -> dict:
        names = [f"{color} {form}" for _, color, form, *_ in scene]
        captions = _captions(names, scene)
        if len(scene) <= 4:
            sized = [f"{part[0]} {name}" for name, part in zip(names, scene, strict=True)]
            captions = (*captions, _captions(sized, scene)[0])
        return dict(
            captions=captions,
            concept=" + ".join(names),
            style="scenes",
            category=str(len(scene)),
            key=f"scenes/{self.split}/{index}",
        )


def from_name(name: str, split: str) -> ScenesSource:
    """Builds the source of "scenes" or "scenes:size=32,count=500,objects=3"."""
    return ScenesSource(split, **shapes.options(name, ("size", "count", "objects")))


def draw(objects: list[tuple], size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Draws (color, form, center, radius) on white, later ones on top."""
    image = np.full((size, size, 3), 255.0, np.float32)
    for color, form, (x, y), radius in objects:
        left, top = (int(size * (at - radius)) - 1 for at in (x, y))
        side = int(2 * radius * size) + 4
        box = (slice(max(top, 0), max(top + side, 0)), slice(max(left, 0), max(left + side, 0)))
        within = ((x * size - left) / side, (y * size - top) / side)
        cover = shapes.coverage(form, side, within, radius * size / side)
        part = image[box]
        cover = cover[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1], None]
        ink = np.asarray(shapes.COLORS[color], np.float32)
        image[box] = part * (1 - cover) + ink * cover
    return np.round(image).astype(np.uint8)


def listed(names: list[str]) -> str:
    """Returns "a red circle, a blue star and an orange bar"."""
    *first, last = [f"a{'n' if name[0] == 'o' else ''} {name}" for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def _captions(names: list[str], scene: list[tuple]) -> tuple[str, ...]:
    if len(scene) != 2:
        return (listed(names),)
    where = shapes.relation(scene[0][3], scene[1][3])
    one, other = (listed([name]) for name in names)
    return (f"{one} {where} {other}", f"{other} {shapes.OPPOSITE[where]} {one}")


def _centers(number: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draws the objects' centers; a pair stands side by side, three and more in reading order."""
    columns, rows = _CELLS[number]
    if number == 2:
        vertical, flipped = rng.random(2) < 0.5
        ends = (0.73, 0.27) if flipped else (0.27, 0.73)
        across = 0.5 + rng.uniform(-0.08, 0.08, 2)
        pairs = zip(across, ends, strict=True)
        return [(a, e) if vertical else (e, a) for a, e in pairs]
    cells = np.sort(rng.permutation(columns * rows)[:number])
    jitter = 0.08 if number == 1 else 0.03
    moves = rng.uniform(-jitter, jitter, (number, 2))
    if columns > 2:
        moves[:, 0] *= 0.1
    at = [((c % columns + 0.5) / columns, (c // columns + 0.5) / rows) for c in cells]
    return [(x + dx, y + dy) for (x, y), (dx, dy) in zip(at, moves, strict=True)]


def _key(split: str) -> int:
    return shapes.split_id(f"scenes/{split}")
