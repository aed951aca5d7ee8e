"""Contact sheets and statistics, to look at a data set before training on it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from unclip_jax.core.errors import UserError
from unclip_jax.data import images
from unclip_jax.data.sources import Source

_STATISTICS_LIMIT = 50_000  # examples from which statistics are computed


def contact_sheet(
    pixels: Sequence[UInt8[np.ndarray, "_ _ 3"]],  # of any sizes
    labels: Sequence[str],
    *,
    columns: int = 8,
    size: int = 128,
) -> UInt8[np.ndarray, "height width 3"]:
    """Arranges images in rows, with a line of text below each."""
    if not pixels:
        raise UserError("nothing to show")
    font = ImageFont.load_default(size=11)
    line, gap = 16, 4
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    cell = (size + gap, size + line + gap)
    sheet = Image.new("RGB", (columns * cell[0] + gap, rows * cell[1] + gap), images.WHITE)
    draw = ImageDraw.Draw(sheet)
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        x, y = gap + index % columns * cell[0], gap + index // columns * cell[1]
        sheet.paste(Image.fromarray(images.to_square(image, size)), (x, y))
        label = label[:size]  # no letter is narrower than a pixel
        while label and draw.textlength(label, font=font) > size:
            label = label[:-1]
        draw.text((x, y + size + 1), label, fill=(60, 60, 60), font=font)
    return np.asarray(sheet)


def sample_indices(count: int, wanted: int, seed: int) -> list[int]:
    """Draws `wanted` distinct indices below `count`, sorted; all of them if there are fewer."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    return sorted(int(i) for i in rng.permutation(count)[:wanted])


def statistics(source: Source) -> dict:
    """Counts examples, styles, concepts and captions."""
    sample = min(len(source), _STATISTICS_LIMIT)
    infos = [source.info(i) for i in range(sample)]
    captions = [c for info in infos for c in info["captions"]]
    return {
        "examples": len(source),
        "looked_at": sample,
        "styles": dict(sorted(Counter(info["style"] for info in infos).items())),
        "concepts": len({info["concept"] for info in infos}),
        "captions": len(captions),
        "different_captions": len(set(captions)),
        "captions_per_example": round(len(captions) / max(1, sample), 2),
        "words_per_caption": round(
            sum(len(c.split()) for c in captions) / max(1, len(captions)), 2
        ),
    }
