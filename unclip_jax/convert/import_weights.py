"""Imports published weights as a bundle: detects the format and combines its parts."""

import dataclasses
import datetime
import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint.bundle import Bundle, SamplingDefaults, cascade_of
from unclip_jax.checkpoint.tensors import sha256
from unclip_jax.convert import import_clip, import_karlo
from unclip_jax.convert.name_tables import ImportedStage
from unclip_jax.core.errors import UserError
from unclip_jax.text.tokenizer import Tokenizer, load_clip_folder

KINDS = {
    "karlo-diffusers": "a diffusers folder of Karlo (text_encoder, prior, decoder, …)",
    "karlo": "Karlo's own files (prior-ckpt…, decoder-ckpt…, improved-sr-ckpt…, ViT-L-14.pt, …)",
    "clip-hf": "a Hugging Face CLIP folder",
    "clip-openai": "weights in OpenAI's or OpenCLIP's layout",
}
LICENSES = {"karlo": "CreativeML Open RAIL-M", "karlo-diffusers": "CreativeML Open RAIL-M"}
SMALL = (".json", ".txt", ".gz")

Say = Callable[[str], None]


def kind_of(src: Path) -> str:
    """Returns the format of SRC, a key of KINDS."""
    if not src.exists():
        raise UserError(f"{src} does not exist")
    if src.is_dir():
        if import_karlo.is_diffusers_karlo(src):
            return "karlo-diffusers"
        if import_karlo.is_original_karlo(src):
            return "karlo"
        if import_clip.is_hf_clip(src):
            return "clip-hf"
    if import_clip.openai_weights(src) is not None:
        return "clip-openai"
    raise UserError(f"{src} has an unknown format; give {'; '.join(KINDS.values())}")


def import_weights(
    src: Path,
    *,
    name: str,
    license: str | None = None,
    clamp: float | None = None,
    say: Say = lambda line: None,
    sizes: import_karlo.OriginalSizes = import_karlo.PUBLISHED,
) -> Bundle:
    """Returns SRC as a bundle; its parameters are read when it is saved.

    Args:
        license: of the weights; None = the published one of Karlo, else empty.
        clamp: bound of the prior's |x0|; None = the source's.
        say: called with a line for each step.
        sizes: of Karlo's own files, if they differ from the published ones.
    """
    kind = kind_of(src)
    say(f"{src}: {KINDS[kind]}")
    if kind == "karlo-diffusers":
        stages = import_karlo.import_diffusers_karlo(src, clamp)
    elif kind == "karlo":
        stages = import_karlo.import_original_karlo(src, clamp, sizes)
    elif kind == "clip-hf":
        stages = {"clip": import_clip.import_hf_clip(src)}
    else:
        stages = {"clip": import_clip.import_openai_clip(import_clip.openai_weights(src))}
    if clamp is not None and "prior_diffusion" not in stages:
        raise UserError(f"--clamp is for a prior, and {src} has none")
    tokenizer = _tokenizer(src, stages["clip"])
    say(f"hashing {', '.join(sorted({f.name for s in stages.values() for f in s.files}))}")
    bundle = Bundle(
        name=name,
        stages={stage: found.stage for stage, found in stages.items()},
        tokenizer=tokenizer,
        license=LICENSES.get(kind, "") if license is None else license,
        provenance=_provenance(src, kind, stages),
    )
    return bundle if "decoder" not in stages else _with_sampling(bundle)


def _with_sampling(bundle: Bundle) -> Bundle:
    """Adds Karlo's cascade and its sampling defaults: nothing is rounded between stages."""
    prior = "diffusion" if "prior_diffusion" in bundle.stages else "none"
    sampling = SamplingDefaults(prior=prior, round_low_res=False)
    return dataclasses.replace(bundle, cascade=cascade_of(bundle.stages), sampling=sampling)


def _tokenizer(src: Path, clip: ImportedStage) -> Tokenizer:
    text = clip.stage.spec.model.text
    tokenizer = load_clip_folder(src if src.is_dir() else src.parent, text.context)
    if tokenizer.vocab_size != text.vocab_size:
        raise UserError(
            f"{src}: the vocabulary has {tokenizer.vocab_size} tokens, but the text tower has "
            f"{text.vocab_size}"
        )
    return tokenizer


def _provenance(src: Path, kind: str, stages: Mapping[str, ImportedStage]) -> dict[str, Any]:
    """Returns the provenance: every file that was read, with its SHA-256."""
    root = src if src.is_dir() else src.parent
    files = {file for found in stages.values() for file in found.files}
    if src.is_dir():
        files |= {path for path in src.rglob("*") if path.suffix in SMALL and path.is_file()}
    return {
        "imported_from": kind,
        "source_files": {str(f.relative_to(root)): sha256(f) for f in sorted(files)},
        "unclip_jax": importlib.metadata.version("unclip_jax"),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
