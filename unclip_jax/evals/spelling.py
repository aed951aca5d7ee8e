"""Can a word be written? Drawn words of 1 to 8 letters, read back by template matching.

The form of the paper's figure 16. Words of the training set and words that it has never seen are
apart: `train` and the held-out splits. Measured for each length: the share of letters that stand in
their place, and the share of words without an error.
"""

import numpy as np
from jaxtyping import Float, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.core.rendering import labeled_grid
from unclip_jax.data.sets import words
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import SPELLING_GRID
from unclip_jax.evals.scene_prompts import (
    NOT_DRAWN,
    Images,
    compared,
    draw_all,
    training_costs,
)
from unclip_jax.evals.settings import Settings
from unclip_jax.evals.word_reader import read_word

RECIPE = "letters by template matching"
SHOWN = 2  # words of the grid for each length
GROUPS = {"train": "seen", "test": "unseen"}


def spelling(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Writes words of each length, an eighth of `settings.prompts` of each and of each split."""
    if settings.data.partition(":")[0] != "words":
        raise UserError("suite spelling needs rendered words: pass --data words:size=32")
    size, rows, labels, results = _size(settings), [], [], {}
    for split, group in GROUPS.items():
        for length, known in enumerate(words.words(split), 1):
            chosen = choose_words(known, settings)
            captions = [words.caption(word) for word in chosen]
            real = np.stack([render(word, size) for word in chosen])
            drawn = draw_all(model, captions, real, settings)
            scores = {way: letters_right(images, chosen) for way, images in drawn.items()}
            label = f"{group}/{{}}/{{}}_{length}".format
            results |= compared(
                scores, label, RECIPE, f"{group} words of each length", np.asarray(chosen)
            )
            ways = [way for way in drawn if way not in NOT_DRAWN]
            for i, word in enumerate(chosen[:SHOWN]):
                rows.append([drawn[way][i] for way in ways])
                labels.append(f'"{word}" ({group}): {", ".join(ways)}')
    if settings.image_folder is not None:
        labeled_grid(rows, labels, columns=4).save(settings.image_folder / SPELLING_GRID)
    return results | training_costs(model, settings)


def choose_words(known: tuple[str, ...], settings: Settings) -> list[str]:
    """Draws words of one length by the seed; all of them where there are not so many."""
    count = max(2, settings.prompts // words.LONGEST)
    order = np.random.default_rng(settings.seed).permutation(len(known))[:count]
    return [known[i] for i in order]


def render(word: str, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Returns a word in black."""
    ink = words.stencil(word, size)[..., None]
    return np.where(ink, np.uint8(30), np.uint8(255)).repeat(3, axis=2)


def letters_right(images: Images, wanted: list[str]) -> dict[str, Float[np.ndarray, " n"]]:
    """Returns for each word the share of its letters that stand in place, and whether all do.

    A word with a letter too many is wrong.
    """
    letters, whole = np.zeros(len(wanted)), np.zeros(len(wanted))
    for row, (image, word) in enumerate(zip(images, wanted, strict=True)):
        read = read_word(image)
        letters[row] = np.mean([a == b for a, b in zip(word, read.ljust(len(word)), strict=False)])
        whole[row] = read == word
    return {"letters": letters, "words": whole}


def _size(settings: Settings) -> int:
    return words.from_name(settings.data, "test").size
