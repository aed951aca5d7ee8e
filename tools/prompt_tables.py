"""Writes the tables for reading prompts: names of emoji, and words of the training captions.

    python tools/prompt_tables.py [FOLDER]

FOLDER keeps the npm packages of `unclip data prepare emoji`; default: the cache folder, where that
command keeps them. Both tables are built from the labels and tags of emojibase (MIT, see NOTICE).
"""

import re
import sys
from pathlib import Path

from unclip_jax.core.files import cache_folder
from unclip_jax.data.sets import emoji, npm

TABLES = Path(__file__).resolve().parents[1] / "unclip_jax" / "data" / "sets"
MADE = "# Made by tools/prompt_tables.py from emojibase-data (MIT).\n"
FLAGS = ("flag", "country-flag", "subdivision-flag")


def names(tarball: Path) -> list[str]:
    """Lists "code points = label" of every emoji without a skin tone."""
    found = emoji.read_names(tarball)
    return [f"{code} = {found[code].label}" for code in sorted(found)]


def words(tarballs: dict[str, Path]) -> list[str]:
    """Lists the words of the captions that the shipped CLIP was trained on (no flags)."""
    pictures = emoji.split_drawings(emoji.collect(tarballs))["train"]
    captions = {c for p in pictures if p.name.category not in FLAGS for c in p.captions}
    found = {word for caption in captions for word in re.findall(r"[^\W\d_]+", caption.lower())}
    return sorted(word for word in found if len(word) > 1)


def main() -> None:
    """Fetches what is missing and writes both tables."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else cache_folder() / "npm"
    tarballs = {style: npm.fetch(package, folder) for style, package in emoji.PACKAGES.items()}
    tarballs["names"] = npm.fetch(emoji.NAMES, folder)
    about = "# Emoji by code points, without FE0F, and their names.\n"
    text = MADE + about + "\n".join(names(tarballs["names"])) + "\n"
    (TABLES / "emoji_names.txt").write_text(text, encoding="utf-8")
    about = "# Words of the captions in the training split, without flags.\n"
    text = MADE + about + "\n".join(words(tarballs)) + "\n"
    (TABLES / "emoji_words.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
