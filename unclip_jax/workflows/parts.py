"""Stages that bundles give to another bundle: their records, licenses and origin."""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.checkpoint.runs import RunResult, stored_digests
from unclip_jax.core.errors import UserError
from unclip_jax.models.stages import CLIP

OF_COMPONENTS = frozenset({CLIP, "prior_ar"})
"""Stages to which a bundle's principal components belong."""

ORIGIN = ("imported_from", "source_files", "git_commit", "unclip_jax", "date")


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A bundle whose stages go into another one.

    Attributes:
        folder: where it lies.
        bundle: its stages, parameters as stored, and only the arrays and components of these.
    """

    folder: Path
    bundle: Bundle

    @property
    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """How its stages were trained, by stage; imported ones have no record."""
        found = self.bundle.provenance.get("stages", {})
        return {name: found[name] for name in self.bundle.stages if name in found}

    @property
    def origins(self) -> dict[str, Any]:
        """Name, license and source of each stage's bundle, which may have taken it from another."""
        found = self.bundle.provenance
        own = {"bundle": self.bundle.name, "license": self.bundle.license}
        own |= {key: found[key] for key in ORIGIN if found.get(key)}
        return {name: found.get("taken_from", {}).get(name, own) for name in self.bundle.stages}

    def keeping(self, names: Collection[str]) -> "Part":
        """Returns the part with these stages alone, and what belongs to them."""
        stages = {name: s for name, s in self.bundle.stages.items() if name in names}
        left = dataclasses.replace(self.bundle, stages=stages)
        return Part(self.folder, _with_own_arrays(left, not OF_COMPONENTS.isdisjoint(stages)))

    @functools.cached_property
    def runs(self) -> list[RunResult]:
        """What it records of the runs of its stages; curves are those in its folder."""
        return [
            RunResult(
                folder=self.folder,
                config=about,
                spec=self.bundle.stages[name].spec,
                step=about["steps"],
                ema_params=self.bundle.stages[name].params,
                environment=tuple(about.get("environment") or ()),
                arrays={},
            )
            for name, about in self.records.items()
        ]

    def digests(self, stage: str) -> set[str]:
        """Returns the digests that identify a stage's parameters: as trained, and as stored."""
        trained = self.records.get(stage, {}).get("params_sha256")
        stored = stored_digests(self.bundle.stages[stage].params)
        return {*stored, *([trained] if trained else [])}


def is_bundle(source: str | Path) -> bool:
    """Whether a source of an export is a bundle, by folder or a shipped one's name, not a run."""
    path = Path(source)
    if (path / "config.json").is_file():
        return False
    return (path / "bundle.json").is_file() or str(source) in bundle.shipped_names()


def read_part(source: str | Path, stage: str | None = None) -> Part:
    """Reads the stages of a bundle, or one of them, with what belongs to them.

    Raises:
        UserError: it is no bundle, has no such stage, or a record that is damaged.
    """
    folder = bundle.resolve(source)
    wanted = None if stage is None else [stage]
    found = bundle.load(source, stages=wanted, params_dtype=None)
    _check_provenance(folder / "bundle.json", found.provenance)
    return Part(folder, _with_own_arrays(found, stage is None or stage in OF_COMPONENTS))


def _with_own_arrays(found: Bundle, keeps_components: bool) -> Bundle:
    """Returns a bundle with the arrays of its stages only, with the components or without."""
    arrays = {k: array for k, array in found.arrays.items() if k.partition(".")[0] in found.stages}
    return dataclasses.replace(found, arrays=arrays, pca=found.pca if keeps_components else None)


def _check_provenance(path: Path, provenance: Mapping[str, Any]) -> None:
    """Fails if what an export copies of a bundle's origin has a wrong type."""
    taken = provenance.get("taken_from", {})
    origins = taken.values() if isinstance(taken, Mapping) else [None]
    wrong = [] if all(map(_is_origin, origins)) else ["taken_from"]
    stages = provenance.get("stages", {})
    wrong += [f"stages.{name}" for name, about in stages.items() if not _is_record(about)]
    for name in wrong:
        raise UserError(f"{path}: provenance.{name} is damaged; restore it or make the bundle anew")


def _is_origin(about: Any) -> bool:
    words = ("bundle", "license")
    return isinstance(about, Mapping) and all(isinstance(about.get(word), str) for word in words)


def _is_record(about: Mapping[str, Any]) -> bool:
    data, starts = about.get("data"), about.get("environment") or []
    return (
        isinstance(about.get("steps"), int)
        and isinstance(about.get("train"), Mapping)
        and isinstance(about.get("identity") or {}, Mapping)
        and isinstance(data, Mapping)
        and isinstance(data.get("name"), str)
        and isinstance(starts, list)
        and all(isinstance(start, Mapping) for start in starts)
    )


def license_of(given: str | None, own: str, parts: Sequence[Part]) -> str:
    """Returns the license of a bundle: as given, else of what was trained, and of each part.

    Args:
        own: of the runs' parameters; "" if there are only parts.
    """
    if given is not None:
        return given
    terms = {part.bundle.license or "not stated" for part in parts}
    if not parts or terms == {own}:
        return own
    if not own and len(terms) == 1:
        return parts[0].bundle.license
    texts = [f"{', '.join(p.bundle.stages)}: {p.bundle.license or 'not stated'}" for p in parts]
    return "; ".join([*([own] if own else []), *texts])


def check_parts(parts: Sequence[Part], stage: str, known: set[str] | frozenset[str]) -> None:
    """Refuses a part that records another CLIP or dVAE than the one it goes with.

    One that has that stage itself was checked when it was put together; since then the stage may
    have been rounded, so that no digest of it tells.

    Args:
        stage: whose parameters the records name.
        known: digests of that stage.
    """
    for part in (part for part in parts if stage not in part.bundle.stages):
        for name, about in part.records.items():
            used = (about.get("identity") or {}).get(stage)
            if used and used not in known:
                raise UserError(
                    f"stage {name} of {part.folder} was trained on another {stage}; train it anew"
                )
