"""Contact sheets and statistics: looking at a set before training on it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from unclip_jax.core.errors import UserError
from unclip_jax.data import images
from unclip_jax.data.sources import Source

_STATISTICS_LIMIT = 50_000  # examples looked at for the statistics


def contact_sheet(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],  # of any sizes
    labels: Sequence[str],
    *,
    columns: int = 8,
    size: int = 128,
) -> UInt8[np.ndarray, "height width 3"]:
    """Lays pictures out in rows with one line of text under each."""
    if not pictures:
        raise UserError("nothing to show")
    font = ImageFont.load_default(size=11)
    line, gap = 16, 4
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    cell = (size + gap, size + line + gap)
    sheet = Image.new("RGB", (columns * cell[0] + gap, rows * cell[1] + gap), images.WHITE)
    draw = ImageDraw.Draw(sheet)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = gap + place % columns * cell[0], gap + place // columns * cell[1]
        sheet.paste(Image.fromarray(images.to_square(picture, size)), (x, y))
        label = label[:size]  # no letter is narrower than a pixel; each turn measures all of it
        while label and draw.textlength(label, font=font) > size:
            label = label[:-1]
        draw.text((x, y + size + 1), label, fill=(60, 60, 60), font=font)
    return np.asarray(sheet)


def pick(count: int, wanted: int, seed: int) -> list[int]:
    """Picks `wanted` different indices below `count`, all of them if there are fewer."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    return sorted(int(i) for i in rng.permutation(count)[:wanted])


def statistics(source: Source) -> dict:
    """Counts examples, styles, concepts and captions."""
    looked = min(len(source), _STATISTICS_LIMIT)
    infos = [source.info(i) for i in range(looked)]
    captions = [c for info in infos for c in info["captions"]]
    return {
        "examples": len(source),
        "looked_at": looked,
        "styles": dict(sorted(Counter(info["style"] for info in infos).items())),
        "concepts": len({info["concept"] for info in infos}),
        "captions": len(captions),
        "different_captions": len(set(captions)),
        "captions_per_example": round(len(captions) / max(1, looked), 2),
        "words_per_caption": round(
            sum(len(c.split()) for c in captions) / max(1, len(captions)), 2
        ),
    }
