"""OpenAI's own tokenizer, loaded alone: importing its package would need torchvision."""

import importlib.metadata
import importlib.util
from pathlib import Path
from types import ModuleType

DISTRIBUTION = "clip-anytorch"
VOCABULARY = "clip/bpe_simple_vocab_16e6.txt.gz"


def reference_file(name: str) -> Path:
    """Finds a file of the installed distribution (`pip install --no-deps clip-anytorch`)."""
    return Path(str(importlib.metadata.distribution(DISTRIBUTION).locate_file(name)))


def reference_module() -> ModuleType:
    """Loads clip/simple_tokenizer.py by its path."""
    path = reference_file("clip/simple_tokenizer.py")
    spec = importlib.util.spec_from_file_location("clip_simple_tokenizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference_row(tokenizer, text: str, context: int) -> list[int]:
    """Returns the row of clip.tokenize(text, context, truncate=True), which needs torch itself."""
    sot, eot = tokenizer.encoder["<|startoftext|>"], tokenizer.encoder["<|endoftext|>"]
    ids = [sot, *tokenizer.encode(text), eot]
    if len(ids) > context:
        ids = ids[:context]
        ids[-1] = eot
    return ids + [0] * (context - len(ids))
