"""CLIP's byte-pair tokenizer: CLIP's own vocabulary from local files, or one trained on captions.

A text becomes [SOT] pieces [EOT], padded with id 0. Words are split by CLIP's pattern, written as
UTF-8 bytes (one printable symbol per byte, the last one of a word marked "</w>") and merged by
rank. Layout of every vocabulary, CLIP's and ours alike:

    0..255     single bytes; id 0 is "!", which doubles as padding
    256..511   single bytes at the end of a word
    512..      merges in order of rank
    size - 2   SOT
    size - 1   EOT, the largest id: the text tower pools at its position

All 512 byte symbols must be present, so that no text needs an unknown token. Texts are cleaned as
in CLIP (`clean_text`); this is not part of tokenizer.json. Special tokens written out in a text are
read as ordinary characters.
"""

import copy
import functools
import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Integer

from unclip_jax.core.errors import UserError
from unclip_jax.text import files

SOT = "<|startoftext|>"
EOT = "<|endoftext|>"
END_OF_WORD = "</w>"
PAD_ID = 0
CLIP_CONTEXT = 77
CLIP_VOCAB_SIZE = 49408

# CLIP's pattern without its two special tokens. U+0345 is left out of every class because the
# reference drops it: case-insensitively, `regex` puts it in no class, not even [^\p{L}].
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+"

PROBES = ("a photo of a cat", "two dogs, running!", "it's 1984")
"""Texts that an imported vocabulary is tested with; they need no cleaning."""


class Tokens(NamedTuple):
    """A batch of token rows.

    Attributes:
        tokens: ids, padded with 0.
        mask: True from SOT to EOT, both included.
        truncated: True where the text was too long; its row still ends with EOT.
    """

    tokens: Int32[np.ndarray, "n ctx"]
    mask: Bool[np.ndarray, "n ctx"]
    truncated: Bool[np.ndarray, " n"]


def clean_text(text: str) -> str:
    """Cleans a text as CLIP does: ftfy, HTML entities twice, collapsed white space, lower case.

    Raises:
        UserError: the text has a lone surrogate, which is not valid Unicode.
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):  # else it needs no repair
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(_join_surrogates(text))))
    return " ".join(text.split()).lower()


def _join_surrogates(text: str) -> str:
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        shown = ascii(text if len(text) <= 60 else text[:60] + "...")
        raise UserError(
            f"{shown} contains a lone surrogate, which is not valid Unicode; retype it as UTF-8"
        ) from None


@functools.cache
def byte_symbols() -> tuple[str, ...]:
    """Returns GPT-2's printable symbol for each byte, in vocabulary order: "!" first.

    Bytes that print as themselves keep their character; the others follow as chr(256), ...
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(map(chr, printable)) + tuple(chr(256 + i) for i in range(len(others)))


@functools.cache
def _byte_of_symbol() -> dict[str, int]:
    symbols = byte_symbols()
    printable = [ord(symbol) for symbol in symbols if ord(symbol) < 256]
    others = [byte for byte in range(256) if byte not in printable]
    return dict(zip(symbols, printable + others, strict=True))


def base_symbols() -> tuple[str, ...]:
    """Returns the first 512 symbols of every vocabulary: bytes, then bytes that end a word."""
    return byte_symbols() + tuple(symbol + END_OF_WORD for symbol in byte_symbols())


def build_vocab(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Returns the vocabulary of a merge list in CLIP's order."""
    tokens = [*base_symbols(), *("".join(merge) for merge in merges), SOT, EOT]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


class Tokenizer:
    """Encodes texts to rows of token ids and decodes them; pickles by value."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        context: int = CLIP_CONTEXT,
    ):
        """Checks the vocabulary's layout and builds the encoder of the `tokenizers` library."""
        _check_vocab(vocab, merges)
        if context < 2:
            raise ValueError(f"{context=} must be at least 2, for SOT and EOT")
        self._vocab = dict(vocab)
        self._merges = [tuple(merge) for merge in merges]
        self.context = context
        self._backend = _make_backend(self._vocab, self._merges)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._vocab, self._merges, self.context)

    @property
    def vocab(self) -> dict[str, int]:
        """Id of every token."""
        return dict(self._vocab)

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Merged pairs, by rank."""
        return list(self._merges)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._vocab)

    @property
    def pad_id(self) -> int:
        """Id of padding, 0 as in CLIP."""
        return PAD_ID

    @property
    def sot_id(self) -> int:
        """Id of the start of text, the second largest."""
        return self._vocab[SOT]

    @property
    def eot_id(self) -> int:
        """Id of the end of text, the largest."""
        return self._vocab[EOT]

    def encode(self, texts: Sequence[str], context: int | None = None) -> Tokens:
        """Cleans and encodes texts into rows of `context` ids (default: the tokenizer's own).

        A text that is too long keeps its first context - 2 pieces and its EOT.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not one string")
        context = self.context if context is None else context
        if context < 2:
            raise ValueError(f"{context=} must be at least 2, for SOT and EOT")
        tokens = np.full((len(texts), context), PAD_ID, np.int32)
        mask = np.zeros((len(texts), context), bool)
        truncated = np.zeros(len(texts), bool)
        for row, ids in enumerate(self._pieces([clean_text(text) for text in texts])):
            kept = ids[: context - 2]
            end = len(kept) + 2
            tokens[row, :end] = [self.sot_id, *kept, self.eot_id]
            mask[row, :end] = True
            truncated[row] = len(kept) < len(ids)
        return Tokens(tokens, mask, truncated)

    def _pieces(self, cleaned: list[str]) -> list[list[int]]:
        batch = self._backend.encode_batch_fast(cleaned, add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def decode(self, ids: Sequence[int] | Integer[np.ndarray, " n"]) -> str:
        """Returns the text of token ids, with spaces between words and without SOT and EOT."""
        names = {i: token for token, i in self._vocab.items()}
        symbols = "".join(names[int(i)] for i in ids if int(i) not in (self.sot_id, self.eot_id))
        words = symbols.replace(END_OF_WORD, " ")
        codes = _byte_of_symbol()
        data = bytes(ord(" ") if symbol == " " else codes[symbol] for symbol in words)
        return data.decode("utf-8", errors="replace").strip()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes tokenizer.json in the format of the `tokenizers` library, deterministically.

        The context is stored as the padding and truncation length.
        """
        backend = copy.deepcopy(self._backend)
        backend.enable_truncation(self.context)
        backend.enable_padding(pad_id=PAD_ID, pad_token=byte_symbols()[0], length=self.context)
        path = Path(path)
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(backend.to_str(), encoding="utf-8")
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], context: int | None = None) -> "Tokenizer":
        """Reads a tokenizer.json, ours or Hugging Face's for CLIP.

        Args:
            context: overrides the file's; CLIP's 77 if neither is given.
        """
        found = files.read_tokenizer_json(Path(path))
        length = next(n for n in (context, found.context, CLIP_CONTEXT) if n is not None)
        try:
            return cls(found.vocab, found.merges, length)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def load_clip_folder(folder: str | os.PathLike[str], context: int = CLIP_CONTEXT) -> Tokenizer:
    """Loads CLIP's tokenizer from a local folder, or from its subfolder `tokenizer`.

    Reads vocab.json with merges.txt, tokenizer.json, or OpenAI's bpe_simple_vocab_16e6.txt[.gz], in
    this order. The result must encode PROBES as transformers' CLIPTokenizer does.
    """
    found = files.read_clip_folder(Path(folder))
    vocab = build_vocab(found.merges) if found.vocab is None else found.vocab
    try:
        tokenizer = Tokenizer(vocab, found.merges, context)
        _check_reading(tokenizer)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return tokenizer


def train_tokenizer(
    captions: Iterable[str], vocab_size: int, context: int = CLIP_CONTEXT
) -> Tokenizer:
    """Trains a vocabulary with CLIP's layout on captions.

    The result depends only on the multiset of captions. It is smaller than `vocab_size` if too few
    pairs occur twice.

    Args:
        vocab_size: at least 514: the byte symbols, SOT and EOT.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, trainers

    base = list(base_symbols())
    if vocab_size < len(base) + 2:
        raise UserError(f"vocab_size {vocab_size} is too small; the least is {len(base) + 2}")
    backend = Backend(models.BPE(end_of_word_suffix=END_OF_WORD))
    backend.pre_tokenizer = _make_pre_tokenizer()
    # The byte symbols are added as special tokens, which fixes their ids: ties between pairs are
    # broken by id, and ids in order of first occurrence would depend on a hash map's order.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=2,
        special_tokens=base,
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    backend.train_from_iterator(map(clean_text, captions), trainer)
    merges = [tuple(merge) for merge in json.loads(backend.to_str())["model"]["merges"]]
    return Tokenizer(build_vocab(merges), merges, context)


def _check_vocab(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
    size = len(vocab)
    if sorted(vocab.values()) != list(range(size)):
        raise UserError(f"the vocabulary's {size} ids are not 0..{size - 1}")
    missing = [symbol for symbol in base_symbols() if symbol not in vocab]
    if missing:
        raise UserError(f"the vocabulary lacks {len(missing)} of 512 byte symbols ({missing[0]!r})")
    if (vocab.get(SOT), vocab.get(EOT)) != (size - 2, size - 1):
        raise UserError(f"{SOT} and {EOT} must be the vocabulary's last two ids, in this order")
    for merge in merges:
        for symbol in (*merge, "".join(merge)):
            if symbol not in vocab:
                raise UserError(
                    f"merge {' '.join(merge)!r} needs {symbol!r}, not in the vocabulary"
                )


def _check_reading(tokenizer: Tokenizer) -> None:
    """Fails if transformers' CLIPTokenizer encodes PROBES otherwise: its version does not fit."""
    theirs = _clip_tokenizer_class()(vocab=tokenizer.vocab, merges=tokenizer.merges)
    rows = theirs(list(PROBES))["input_ids"]
    own = tokenizer.encode(PROBES, CLIP_CONTEXT).tokens
    for text, row, ours in zip(PROBES, rows, own, strict=True):
        if list(row) != ours[: len(row)].tolist():
            raise UserError(
                f"transformers' CLIPTokenizer encodes {text!r} as {row}, unclip_jax as "
                f"{ours[: len(row)].tolist()}; install the versions pinned in requirements*.txt"
            )


def _make_pre_tokenizer() -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _make_backend(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    """Builds the backend of transformers' CLIPTokenizer, whose import takes seconds.

    It has no normalizer: NFC after HTML unescaping would compose characters that CLIP leaves
    decomposed, and `clean_text` does the rest. The pattern is CLIP's, case-insensitive.
    """
    from tokenizers import AddedToken, decoders, models, normalizers, processors
    from tokenizers import Tokenizer as Backend

    backend = Backend(
        models.BPE(
            vocab=vocab,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix=END_OF_WORD,
            unk_token=EOT,
        )
    )
    special = [AddedToken(token, special=True, normalized=False) for token in (SOT, EOT)]
    backend.add_special_tokens(special)
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = _make_pre_tokenizer()
    backend.post_processor = processors.RobertaProcessing(
        (EOT, vocab[EOT]), (SOT, vocab[SOT]), add_prefix_space=False, trim_offsets=False
    )
    backend.decoder = decoders.ByteLevel()
    backend.encode_special_tokens = True
    return backend


def _clip_tokenizer_class() -> Any:
    """Imports CLIPTokenizer, which takes seconds, without its advice to install torch."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        from transformers.models.clip.tokenization_clip import CLIPTokenizer
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    return CLIPTokenizer
