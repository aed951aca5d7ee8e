"""Writes clip_tokens.json and clip_vocabulary/ from OpenAI's tokenizer; run by hand.

    pip install --no-deps clip-anytorch==2.6.0; pip install ftfy regex
    python -m tests.golden.make_clip_tokens

clip_vocabulary/ holds the part of OpenAI's merge list that CLIP uses (MIT license, copyright 2021
OpenAI), so that the tests have the real vocabulary without a download.
"""

import gzip
import importlib.metadata
import json
import platform
from pathlib import Path

from tests.clip_reference import (
    DISTRIBUTION,
    VOCABULARY,
    reference_file,
    reference_module,
    reference_row,
)
from tests.strings import varied_strings

HERE = Path(__file__).parent
CONTEXT = 77


def main() -> None:
    reference = reference_module().SimpleTokenizer()
    texts = varied_strings(240, seed=7)
    rows = [reference_row(reference, text, CONTEXT) for text in texts]
    for row in rows:  # padding is implied
        while row and row[-1] == 0:
            row.pop()
    versions = {p: importlib.metadata.version(p) for p in (DISTRIBUTION, "ftfy", "regex")}
    golden = {
        "versions": {**versions, "python": platform.python_version()},
        "context": CONTEXT,
        "cases": [{"text": t, "ids": row} for t, row in zip(texts, rows, strict=True)],
    }
    lines = json.dumps(golden, ensure_ascii=True).replace('{"text"', '\n{"text"')
    (HERE / "clip_tokens.json").write_text(lines + "\n", encoding="utf-8")

    used = 1 + 49152 - 256 - 2  # the header, and as many merges as SimpleTokenizer takes
    text = gzip.decompress(reference_file(VOCABULARY).read_bytes()).decode("utf-8")
    merges = "\n".join(text.split("\n")[:used]) + "\n"
    folder = HERE / "clip_vocabulary"
    folder.mkdir(exist_ok=True)
    (folder / "bpe_simple_vocab_16e6.txt.gz").write_bytes(
        gzip.compress(merges.encode("utf-8"), 9, mtime=0)
    )


if __name__ == "__main__":
    main()
