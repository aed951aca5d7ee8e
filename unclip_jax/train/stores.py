"""Stores of embeddings that a prior is trained on in place of images: opened and checked.

`config.data.embeddings` is the store of the training split, `config.eval.embeddings` that of
`config.eval.split`, both written by `unclip embed` with the CLIP of the run. Every record is an
example. Settings of how images are shown (data.crop, zoom, shift, …) then have no effect, and
train.cache_clip has nothing to cache; `resolve.check_stores` refuses what cannot apply.
"""

import dataclasses
from pathlib import Path

from unclip_jax.core.errors import UserError
from unclip_jax.data.embeddings import read_meta
from unclip_jax.data.store_pipeline import StoredExamples
from unclip_jax.train.resolve import Settings, embed_command


@dataclasses.dataclass(frozen=True)
class Stores:
    """The stores of a run; `held_out` is None without evaluation."""

    train: StoredExamples
    held_out: StoredExamples | None

    def check_clip(self, clip: str) -> None:
        """Raises UserError unless both stores are of the CLIP of these parameters' digest."""
        for source in (self.train, self.held_out):
            if source is not None:
                read_meta(source.folder, {clip})

    def describe_cut(self, context: int | None) -> str | None:
        """Returns a warning if captions are cut shorter than the stage's own context, else None."""
        if context is None or self.train.meta.context >= context:
            return None
        return (
            f"the store keeps {self.train.meta.context} tokens of a caption, where the stage reads "
            f"{context} at sampling; a new store written by unclip embed keeps them"
        )

    def identity(self) -> dict[str, str | None]:
        """Returns fingerprints that tell these stores from others in the same folders."""
        held_out = None if self.held_out is None else self.held_out.fingerprint()
        return {"train": self.train.fingerprint(), "held_out": held_out}


def open_stores(settings: Settings) -> Stores | None:
    """Opens the stores that the config names, None without one; their CLIP is checked later."""
    if not settings.data.embeddings:
        return None
    held_out = None
    if settings.eval.batches:
        folder = Path(settings.eval.embeddings)
        held_out = _open(folder, "eval", settings, settings.eval.split)
    folder = Path(settings.data.embeddings)
    return Stores(_open(folder, "data", settings, settings.data.split), held_out)


def _open(folder: Path, section: str, settings: Settings, split: str) -> StoredExamples:
    """Opens a store, which must be of the split and the subset of the data that the config names.

    Args:
        section: of the config that names the folder.
    """
    if not folder.is_dir():
        remedy = f"make it with: {embed_command(settings, split)}"
        raise UserError(f"config.{section}.embeddings: there is no folder {folder}; {remedy}")
    meta, data = read_meta(folder), settings.data
    wanted = {"name": data.name, "split": split, "concepts": data.concepts}
    wanted["styles"] = sorted(data.styles)
    found = {**meta.data, "styles": sorted(meta.data.get("styles", ()))}
    for key, value in wanted.items():
        if found.get(key) != value:
            where = "eval" if key == "split" and section == "eval" else "data"
            raise UserError(
                f"config.{section}.embeddings: {folder} is a store of {key} {found.get(key)!r}, "
                f"config.{where}.{key} is {value!r}; make its store with: "
                f"{embed_command(settings, split)}"
            )
    return StoredExamples(folder, meta)
