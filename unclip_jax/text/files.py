"""Reads the file formats of CLIP vocabularies."""

import gzip
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping

Merge = tuple[str, str]

OPENAI_NAMES = ("bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt")
LONGEST_LIST = 16 << 20  # bytes of a merge list, decompressed; CLIP's has 1.3 MiB
LONGEST_CONTEXT = 1 << 16  # token positions
REFETCH = "fetch it again"
OPENAI_MERGES = 49152 - 256 - 2  # OpenAI's file lists more merges than CLIP uses


class VocabularyFiles(NamedTuple):
    """Merges by rank, and the ids and the context length if the files state them."""

    vocab: dict[str, int] | None
    merges: list[Merge]
    context: int | None = None


def read_clip_folder(folder: Path) -> VocabularyFiles:
    """Reads the first layout found in `folder`, then in `folder`/tokenizer."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one with vocab.json and merges.txt")
    for place in (folder, folder / "tokenizer"):
        vocab, merges = place / "vocab.json", place / "merges.txt"
        if vocab.is_file() and merges.is_file():
            return VocabularyFiles(
                _check_ids(read_mapping(vocab, remedy=REFETCH), vocab), read_merges(merges)
            )
        if (place / "tokenizer.json").is_file():
            return read_tokenizer_json(place / "tokenizer.json")
        for name in OPENAI_NAMES:
            if (place / name).is_file():
                return VocabularyFiles(None, read_merges(place / name, limit=OPENAI_MERGES))
    raise UserError(
        f"{folder} has no CLIP vocabulary: put vocab.json and merges.txt, tokenizer.json or "
        f"{OPENAI_NAMES[0]} there"
    )


def read_tokenizer_json(path: Path) -> VocabularyFiles:
    """Reads a tokenizer.json of the `tokenizers` library with a CLIP-style BPE model."""
    content = read_mapping(path, remedy=REFETCH)
    model = content.get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != "</w>":
        raise UserError(f"{path} is not a CLIP tokenizer: its model is not byte-pair with </w>")
    listed = model.get("merges", [])
    if not isinstance(listed, list):
        raise UserError(f"{path}: its merges are not a list; {REFETCH}")
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in listed]
    merges = [tuple(merge) if isinstance(merge, list) else merge for merge in merges]
    for merge in merges:
        _check_merge(merge, path)
    return VocabularyFiles(_check_ids(model.get("vocab"), path), merges, _context(content, path))


def read_merges(path: Path, limit: int | None = None) -> list[Merge]:
    """Reads a merge list: one pair per line, by rank, with or without a version header.

    Args:
        limit: number of pairs to read; fewer are an error.
    """
    lines = [line for line in _read_text(path).replace("\r\n", "\n").split("\n") if line.strip()]
    if lines and "#version" in lines[0]:
        lines = lines[1:]
    if limit is not None and len(lines) < limit:
        raise UserError(f"{path} has {len(lines)} merges instead of {limit}; fetch it again")
    merges = [tuple(line.split()) for line in lines[:limit]]
    for merge in merges:
        _check_merge(merge, path)
    return merges


def _read_text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            data = file.read(LONGEST_LIST + 1)
        if len(data) > LONGEST_LIST:
            raise UserError(
                f"{path} is larger than {LONGEST_LIST >> 20} MiB, the limit for merge lists"
            )
        return data.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _context(content: dict[str, Any], path: Path) -> int | None:
    """Returns the length that texts are truncated to, None if the file states none."""
    truncation = content.get("truncation")
    if truncation is None:
        return None
    length = truncation.get("max_length") if isinstance(truncation, dict) else truncation
    if type(length) is not int or not 2 <= length <= LONGEST_CONTEXT:
        raise UserError(
            f"{path}: truncation.max_length must be a number from 2 to {LONGEST_CONTEXT}; {REFETCH}"
        )
    return length


def _check_merge(merge: Any, path: Path) -> None:
    is_pair = isinstance(merge, tuple) and len(merge) == 2
    if not is_pair or not all(isinstance(part, str) for part in merge):
        raise UserError(f"{path}: merge {merge!r:.80} is not a pair; {REFETCH}")


def _check_ids(vocab: Any, path: Path) -> dict[str, int]:
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise UserError(f"{path}: the vocabulary is not a mapping from token to id; {REFETCH}")
    return vocab
