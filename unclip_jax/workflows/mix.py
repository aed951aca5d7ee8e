"""`unclip mix`: its items as they are written, its grids of weights, and what it writes."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.core.vectors import normalized_weights
from unclip_jax.sampling.mixtures import (
    Mixture,
    check_count,
    draw_mixtures,
    make_mixture,
    resolve_mix,
)
from unclip_jax.sampling.prompts import quoted, spell_emoji
from unclip_jax.sampling.settings import SampleSettings
from unclip_jax.workflows.image_commands import Pixels, Session
from unclip_jax.workflows.images import ImageOutputs, OutputImage

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff")
PATH_STARTS = ("./", "../", "~/", "/")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I | re.A)


@dataclasses.dataclass(frozen=True)
class MixItem:
    """An ITEM of the command line.

    Attributes:
        caption: None for an image.
        path: file of an image; None for a caption.
        weight: None where none is written.
    """

    caption: str | None
    path: Path | None
    weight: float | None

    @property
    def name(self) -> str:
        """The caption, or the name of the image's file."""
        return self.caption if self.path is None else self.path.name


def parse_item(text: str) -> MixItem:
    """Reads ITEM[:WEIGHT]: the name of an image file that exists, or else a caption.

    What follows the last colon is the weight if it is a number. An existing file is always an
    image, whatever its name; what is written as a path or with the ending of an image is never a
    caption.

    Raises:
        UserError: an empty caption, a negative weight or one that is not finite, or the name of an
            image file that does not exist.
    """
    name, weight = text, None
    head, colon, tail = text.rpartition(":")
    if colon and _NUMBER.fullmatch(tail) and not os.path.isfile(text):
        name, weight = head, float(tail)
        if not 0.0 <= weight < float("inf"):
            raise UserError(f"the weight of {quoted(text)} must be finite and not negative")
    if os.path.isfile(name):
        return MixItem(None, Path(name), weight)
    if not name.strip():
        raise UserError(f"{quoted(text)} has no caption; write CAPTION or IMAGE, then :WEIGHT")
    plain = name.strip()
    if plain.lower().endswith(IMAGE_ENDINGS) or plain.startswith(PATH_STARTS):
        raise UserError(f"there is no image {quoted(name)}")
    return MixItem(name, None, weight)


def grid_weights(items: int, steps: int) -> list[Float[np.ndarray, "n k"]]:
    """Returns the weights of a grid, row by row, `steps` on each side.

    Two items have one row, from the first to the second. Three have a triangle, whose corners are
    the items: the first above, the second at the lower left, the third at the lower right.
    """
    last = steps - 1
    if items == 2:
        return [np.asarray([(last - i, i) for i in range(steps)]) / last]
    if items == 3:
        return [
            np.asarray([(last - down, down - i, i) for i in range(down + 1)]) / last
            for down in range(steps)
        ]
    raise UserError(f"--grid takes two items (a row) or three (a triangle), not {items}")


@dataclasses.dataclass(frozen=True)
class Mix:
    """Mixes captions and images.

    Attributes:
        grid: images on a side of the grid of weights; None for one mixture.
        settings: fields of SampleSettings; None means the bundle's.
    """

    items: Sequence[MixItem]
    negative: Sequence[MixItem]
    settings: Mapping[str, Any]
    grid: int | None
    num: int
    linear: bool

    name: ClassVar[str] = "mix"

    def __post_init__(self):
        """Checks the weights before a bundle is loaded."""
        if self.grid is not None:
            grid_weights(len(self.items), self.grid)
            if any(item.weight is not None for item in self.items):
                raise UserError("--grid sets the weights itself; leave them out of the items")
        self._mixture([item.name for item in self.items], [item.name for item in self.negative])
        check_count(self.num, sum(map(len, self._rows())))

    @property
    def stem(self) -> str:
        """The names of the items."""
        return " ".join(item.path.stem if item.path else item.name for item in self.items)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The images, those to move away from last."""
        return tuple(item.path for item in self._all if item.path is not None)

    @property
    def texts(self) -> tuple[str, ...]:
        """The captions, those to move away from last."""
        return tuple(item.caption for item in self._all if item.caption is not None)

    @property
    def files(self) -> list[str]:
        """One file per draw and mixture, and the input images."""
        return [*self._names(), *map(_input_name, range(len(self.paths)))]

    @property
    def _all(self) -> list[MixItem]:
        return [*self.items, *self.negative]

    def _rows(self) -> list[Float[np.ndarray, "n k"]]:
        """The weights of all mixtures, as the figure has them; rows of weights sum to 1."""
        if self.grid is not None:
            return grid_weights(len(self.items), self.grid)
        return [normalized_weights(np.asarray([_weight(item) for item in self.items]))[None]]

    def _names(self) -> list[str]:
        count = sum(map(len, self._rows()))
        if self.grid is None:
            return [f"mix-{draw:02d}.png" for draw in range(self.num)]
        pairs = ((draw, i) for draw in range(self.num) for i in range(count))
        return [f"mix-{draw:02d}-weights-{i:03d}.png" for draw, i in pairs]

    def _mixture(self, items: Sequence[Any], negative: Sequence[Any]) -> Mixture:
        """Returns the mixture of sources, captions or pixels, in the order of the items."""
        own = [(s, _weight(item)) for s, item in zip(items, self.items, strict=True)]
        away = [(s, _weight(item)) for s, item in zip(negative, self.negative, strict=True)]
        if self.grid is None:
            return make_mixture(own, negative=away, linear=self.linear)
        weights = np.concatenate(self._rows())
        return make_mixture(list(items), weights, negative=away, linear=self.linear)

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Embeds the items, mixes and decodes them."""
        left = iter(images)
        sources = [next(left) if item.path else item.caption for item in self._all]
        count = len(self.items)
        mixture = self._mixture(sources[:count], sources[count:])
        given = {name: value for name, value in self.settings.items() if value is not None}
        plan = resolve_mix(session.model, mixture, SampleSettings(**given))
        made = draw_mixtures(
            session.model, mixture, session.key, plan, num=self.num, monitor=session.monitor
        )
        shown = [session.square(image, plan.size) for image in images]
        names = [str(item.path or item.caption) for item in self._all]
        settings = {"items": names[:count], "weights": _rounded(np.concatenate(self._rows()))}
        settings |= {"mean": "linear" if self.linear else "spherical", "num": self.num}
        settings |= {**plan.to_json(), "negative": names[count:], "grid_steps": self.grid}
        if self.negative:
            settings["negative_weights"] = _rounded(mixture.negative_weights)
        weights = np.tile(mixture.weights, (self.num, 1))
        prompts = [_describe(self.items, row) for row in weights]
        draws = np.repeat(np.arange(self.num), len(mixture.weights)).tolist()
        facts = [
            {"weights": _rounded(row), "draw": draw}
            for row, draw in zip(weights, draws, strict=True)
        ]
        return ImageOutputs(
            [OutputImage(*row) for row in zip(self._names(), made, prompts, facts, strict=True)],
            self._figure(made, shown),
            settings,
            {_input_name(i): image for i, image in enumerate(shown)},
        )

    def _figure(self, made: UInt8[np.ndarray, "n s s 3"], inputs: Sequence[Pixels]) -> Image.Image:
        """Draws the input images and the mixtures: a grid for each draw, or all draws in a row."""
        rows, away = self._rows(), ""
        if self.negative:
            away = f", away from {' + '.join(item.name for item in self.negative)}"
        labels = [item.path.name for item in self.items if item.path]
        labels += [f"away from {item.path.name}" for item in self.negative if item.path]
        if self.grid is None:
            title = spell_emoji(_describe(self.items, rows[0][0]) + away)  # the font has no emoji
            labels += [f"draw {draw}" for draw in range(self.num)]
            return labeled_strips([Strip(title, [*inputs, *made], labels)], columns=9)
        title = spell_emoji(" / ".join(item.name for item in self.items) + away)
        strips, left = [Strip(title, inputs, labels)] if inputs else [], iter(made)
        for draw in range(self.num):
            for number, row in enumerate(rows):
                head = f"draw {draw}" if self.num > 1 and number == 0 else ""
                head = head if strips else f"{title}, {head}" if head else title
                images = [next(left) for _ in row]
                texts = [" / ".join(f"{w:.2f}" for w in weights) for weights in row]
                strips.append(Strip(head, images, texts, centered=len(rows) > 1))
        return labeled_strips(strips, columns=max(self.grid, len(inputs)))


def _weight(item: MixItem) -> float:
    return 1.0 if item.weight is None else item.weight


def _describe(items: Sequence[MixItem], weights: Float[np.ndarray, " k"]) -> str:
    """A mixture in words, such as "0.70 a red heart + 0.30 cat.png"."""
    return " + ".join(f"{w:.2f} {item.name}" for w, item in zip(weights, items, strict=True))


def _rounded(weights: Float[np.ndarray, "..."]) -> Any:
    return np.round(weights, 6).tolist()


def _input_name(number: int) -> str:
    return f"input-{number:02d}.png"
