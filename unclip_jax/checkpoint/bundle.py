"""Bundles: one folder with a model's configs, EMA parameters, vocabulary and provenance.

    bundle.json           format version, name, license, stages with their full configs, cascade,
                          sampling defaults, provenance, metrics, SHA-256 of every other file
    tokenizer.json        the vocabulary of the text tower
    STAGE.safetensors     parameters of one stage in a stated dtype
    arrays.safetensors    named arrays that are not parameters ("prior_diffusion.variance_table")
    pca.safetensors       principal components of the CLIP's image embeddings; optional

Loading checks hashes, keys and shapes; errors name the key.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unclip_jax.checkpoint import tensors
from unclip_jax.checkpoint.manifest import (
    FORMAT_VERSION,
    CascadeNet,
    CascadeStep,
    Manifest,
    SamplingDefaults,
    check_extent,
    read_manifest,
)
from unclip_jax.checkpoint.pca_file import PCA_FILE, load_pca, save_pca
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.core.config import to_dict
from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.files import new_folder
from unclip_jax.core.renamed import with_old_keys
from unclip_jax.core.suggest import did_you_mean
from unclip_jax.core.trees import count_params
from unclip_jax.models.pca import Pca
from unclip_jax.models.stages import (
    CLIP,
    STAGES,
    Kind,
    StageSpec,
    check_together,
    param_shapes,
    spec_from_dict,
    spec_to_dict,
    stages_of,
)
from unclip_jax.text.tokenizer import Tokenizer

__all__ = ["CascadeNet", "CascadeStep", "SamplingDefaults", "read_manifest"]

SHIPPED = Path(__file__).resolve().parent.parent / "bundles"


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One network of a bundle: its configs, its parameters and the dtype they are stored in.

    Compared by identity, so that results derived from it (parameters on devices) can be cached.
    """

    spec: StageSpec
    params: Mapping[str, Any] = dataclasses.field(repr=False)
    dtype: str = "float32"

    @functools.cached_property
    def params_digest(self) -> str:
        """Hash of the file that the parameters were loaded from, else of the parameters."""
        return params_digest(self.params)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A complete model: its stages, tokenizer, sampling defaults and provenance.

    Attributes:
        name: as stored in bundle.json.
        stages: networks by name: "clip", "prior_diffusion", "prior_ar", "decoder",
            "upsampler_256", ...
        tokenizer: the vocabulary that captions are encoded with.
        license: of the weights.
        provenance: what each stage was trained on and how, JSON values.
        metrics: measured metrics, JSON values.
        sampling: the default prior, image size and rounding between stages.
        cascade: upsampling steps, smallest input first.
        arrays: arrays that are not parameters, such as "prior_diffusion.variance_table".
        pca: principal components of the CLIP's image embeddings (unCLIP §4).
    """

    name: str
    stages: Mapping[str, Stage]
    tokenizer: Tokenizer | None = None
    license: str = ""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sampling: SamplingDefaults = SamplingDefaults()
    cascade: tuple[CascadeStep, ...] = ()
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)
    pca: Pca | None = dataclasses.field(default=None, repr=False)

    def __repr__(self) -> str:
        """Lists the image sizes and the stages."""
        sizes = [step.output_size for step in self.cascade]
        for name in self.of_kind("decoder"):
            sizes.insert(0, self.stages[name].spec.model.sample_shape[0])
        images = f", images of {' or '.join(map(str, sizes))} pixels" if sizes else ""
        counts = {name: count_params(stage.params) for name, stage in self.stages.items()}
        rows = [f"  {name}: {count:,} parameters" for name, count in counts.items()]
        return "\n".join([f"Bundle {self.name!r}{images}", *rows])

    @functools.cached_property
    def identity(self) -> str:
        """Hash of everything that determines samples: configs, parameters, arrays, vocabulary.

        Covers the loaded stages only: compare bundles with the same stages.
        """
        digest = hashlib.sha256()
        for name, stage in sorted(self.stages.items()):
            spec = json.dumps(spec_to_dict(stage.spec), sort_keys=True)
            digest.update(f"{name} {stage.params_digest} {spec}\n".encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
        if self.tokenizer is not None:
            words = [self.tokenizer.vocab, self.tokenizer.merges, self.tokenizer.context]
            digest.update(json.dumps(words, sort_keys=True).encode())
        return digest.hexdigest()

    @property
    def clip(self) -> Stage:
        """The CLIP that all other stages are conditioned on; a bundle without is a UserError."""
        return self.stage(CLIP)

    def of_kind(self, kind: Kind) -> list[str]:
        """Returns the names of the stages of a kind, in the order of the table of stages.

        Args:
            kind: "clip", "prior", "decoder" or "upsampler".

        Returns:
            The names; empty if the bundle has none of them.
        """
        return [name for name in stages_of(kind) if name in self.stages]

    def stage(self, name: str) -> Stage:
        """Returns a stage by name.

        Args:
            name: as in `stages`.

        Returns:
            The stage, with its configs (`spec`) and parameters (`params`).

        Raises:
            UserError: there is no such stage; the message lists the others.
        """
        if name not in self.stages:
            raise UserError(
                f"bundle {self.name!r} has no stage {name!r}; it has {', '.join(self.stages)}"
            )
        return self.stages[name]


def clip_digests(model: Bundle) -> set[str]:
    """Returns the digests that identify a bundle's CLIP: as stored, and as trained."""
    trained = model.provenance.get("stages", {}).get("clip", {}).get("params_sha256")
    return {params_digest(model.clip.params), *([trained] if trained else [])}


def require_pca(model: Bundle, file: str | Path | None = None) -> Pca:
    """Returns the PCA in `file`, or the bundle's own; one of another CLIP is a UserError."""
    if file is None and model.pca is None:
        raise UserError(
            f"bundle {model.name!r} has no PCA; compute one with unclip embed --fit-pca and pass "
            "--pca FILE"
        )
    pca = model.pca if file is None else load_pca(file)
    if file is not None and pca.clip not in clip_digests(model):
        raise UserError(
            f"{file} was computed with another CLIP than that of bundle {model.name!r}; compute it "
            "with unclip embed --fit-pca"
        )
    return pca


def cascade_of(stages: Mapping[str, Stage]) -> tuple[CascadeStep, ...]:
    """Returns the upsampling steps that the stages make up, smallest first.

    Karlo's two super-resolution networks are one step; the second runs the last sampling step.
    """
    steps = []
    followers = {STAGES[name].follows: name for name in stages}
    for name in stages_of("upsampler"):
        if name not in stages or STAGES[name].follows is not None:
            continue
        model = stages[name].spec.model
        nets = (CascadeNet(name),)
        if name in followers:
            nets = (CascadeNet(name), CascadeNet(followers[name], 1))
        steps.append(CascadeStep(model.low_res_size, model.sample_shape[0], nets))
    return tuple(sorted(steps, key=lambda step: step.input_size))


def shipped_names() -> list[str]:
    """Lists the bundles shipped in the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/bundle.json"))


def resolve(name_or_path: str | Path) -> Path:
    """Returns a bundle's folder, by the name of a shipped one or by path (`./emoji` is a path)."""
    if not isinstance(name_or_path, str | Path):
        raise UserError(f"a bundle is a name or a folder, not {shorten(repr(name_or_path), 60)}")
    names = shipped_names()
    if str(name_or_path) in names:
        return SHIPPED / str(name_or_path)
    path = Path(name_or_path).expanduser()
    if (path / "bundle.json").is_file():
        return path
    if path.is_dir():
        raise UserError(f"{path} is not a bundle: it has no bundle.json")
    hint = did_you_mean(str(name_or_path), names)
    raise UserError(
        f"unknown model {str(name_or_path)!r}: no such folder, and the shipped bundles are "
        f"{', '.join(names) or 'none'}{hint and '; ' + hint}"
    )


def load(
    name_or_path: str | Path,
    *,
    stages: Iterable[str] | None = None,
    params_dtype: str | None = "float32",
    verify: bool = False,
) -> Bundle:
    """Loads a bundle, checking hashes, shapes and unknown keys.

    Args:
        name_or_path: a shipped bundle's name ("emoji") or a bundle's folder.
        stages: names of the stages to load; None = all.
        params_dtype: dtype of the parameters in memory, "float32" by default; None = as stored.
        verify: also hash files above 1 GiB whose size and mtime have not changed.

    Returns:
        The bundle; parameters are NumPy arrays.

    Raises:
        UserError: no such bundle or stage, damaged files, or stages that do not fit each other.
    """
    folder = resolve(name_or_path)
    manifest = read_manifest(folder)
    files = manifest.files
    wanted = list(manifest.stages) if stages is None else list(stages)
    for name in wanted:
        if name not in manifest.stages:
            raise UserError(f"{folder} has no stage {name!r}; it has {', '.join(manifest.stages)}")
    needed = {f"{name}.safetensors" for name in wanted}
    for name in sorted(files):
        if name in needed or not _is_stage_file(name) or verify:
            tensors.check_file(folder / name, files[name], force=verify)
    for name in sorted(needed - set(files)):
        raise UserError(f"{folder / 'bundle.json'}: files has no entry {name!r}")
    for name in wanted:
        shapes = tensors.read_shapes(folder / f"{name}.safetensors")
        spec = manifest.stages[name].spec
        check_extent(folder / "bundle.json", f"stages.{name}.spec.", spec, shapes)
    tokenizer = None
    if "tokenizer.json" in files:
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
    arrays = {}
    if "arrays.safetensors" in files:
        arrays = tensors.read_arrays(folder / "arrays.safetensors")
    loaded = {n: _load_stage(folder, n, manifest, params_dtype) for n in wanted}
    check_together({name: stage.spec for name, stage in loaded.items()})
    _check_vocabulary(folder, loaded, tokenizer)
    _check_tables(folder, loaded, arrays)
    return Bundle(
        name=manifest.name,
        license=manifest.license,
        provenance=manifest.provenance,
        metrics=manifest.metrics,
        stages=loaded,
        sampling=manifest.sampling,
        cascade=manifest.cascade,
        tokenizer=tokenizer,
        arrays=arrays,
        pca=load_pca(folder / PCA_FILE) if PCA_FILE in files else None,
    )


def _check_vocabulary(
    folder: Path, stages: Mapping[str, Stage], tokenizer: Tokenizer | None
) -> None:
    """Fails unless tokenizer and CLIP have the same vocabulary size: JAX clamps other ids."""
    if tokenizer is None or CLIP not in stages:
        return
    size = stages[CLIP].spec.model.text.vocab_size
    if tokenizer.vocab_size != size:
        raise UserError(
            f"{folder / 'tokenizer.json'} has {tokenizer.vocab_size} tokens, but the CLIP "
            f"has {size}: it is the vocabulary of another model"
        )


def _check_tables(
    folder: Path, stages: Mapping[str, Stage], arrays: Mapping[str, np.ndarray]
) -> None:
    """Fails if a variance table does not have a finite float for each noise level."""
    for name, stage in stages.items():
        table, diffusion = arrays.get(f"{name}.variance_table"), stage.spec.diffusion
        if table is None or diffusion is None:
            continue
        is_real = table.dtype.name in ("float16", "bfloat16", "float32", "float64")
        if not is_real or table.shape != (diffusion.num_steps,) or not np.isfinite(table).all():
            raise UserError(
                f"{folder / 'arrays.safetensors'}: {name}.variance_table ({table.dtype}, shape "
                f"{table.shape}) must have {diffusion.num_steps} finite floats"
            )


def _is_stage_file(name: str) -> bool:
    return name.endswith(".safetensors") and name not in ("arrays.safetensors", PCA_FILE)


def _load_stage(folder: Path, name: str, manifest: Manifest, params_dtype: str | None) -> Stage:
    entry, file = manifest.stages[name], f"{name}.safetensors"
    spec = spec_from_dict(entry.spec)
    if spec.stage != name:
        raise UserError(f"{folder / 'bundle.json'}: stage {name!r} has the spec of {spec.stage!r}")
    expected = param_shapes(spec)
    params = tensors.read_tree(folder / file, expected, params_dtype, stored=entry.dtype)
    stage = Stage(spec=spec, params=params, dtype=entry.dtype)
    stage.__dict__["params_digest"] = manifest.files[file].sha256  # the cached property
    return stage


def save(
    bundle: Bundle,
    out: str | Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    write_extra: Callable[[Path], None] | None = None,
) -> Path:
    """Writes a bundle to a new folder, atomically.

    Args:
        bundle: the model to write.
        out: the folder.
        dtype: "float16", "bfloat16" or "float32" for all stages; None = each stage's own.
        overwrite: replace the bundle that is there.
        write_extra: called with the folder, writes further files that are not hashed, such as a
            model card.

    Returns:
        The path of the folder.

    Raises:
        UserError: the folder exists and `overwrite` is False, or it is not a bundle's, or the
            stages do not fit each other.
    """
    out = Path(out)
    check_together({name: stage.spec for name, stage in bundle.stages.items()})
    with new_folder(out, "bundle.json", overwrite=overwrite) as folder:
        stages = {}
        for name, stage in bundle.stages.items():
            stored = dtype or stage.dtype
            tensors.write_tree(folder / f"{name}.safetensors", stage.params, stored)
            count = count_params(stage.params)
            stages[name] = {"spec": spec_to_dict(stage.spec), "dtype": stored, "params": count}
        if bundle.tokenizer is not None:
            bundle.tokenizer.save(folder / "tokenizer.json")
        if bundle.arrays:
            tensors.write_arrays(folder / "arrays.safetensors", bundle.arrays)
        if bundle.pca is not None:
            save_pca(folder / PCA_FILE, bundle.pca)
        manifest = {
            "format_version": FORMAT_VERSION,
            "name": bundle.name,
            "license": bundle.license,
            "provenance": dict(bundle.provenance),
            "metrics": dict(bundle.metrics),
            "sampling": to_dict(bundle.sampling),
            "cascade": [to_dict(step) for step in bundle.cascade],
            "stages": stages,
            "files": {
                path.name: {"sha256": tensors.sha256(path), "bytes": path.stat().st_size}
                for path in sorted(folder.iterdir())
            },
        }
        text = json.dumps(with_old_keys(manifest), indent=1, ensure_ascii=False)
        (folder / "bundle.json").write_text(text + "\n", encoding="utf-8")
        if write_extra is not None:
            write_extra(folder)
    return out
