"""From a config to the settings of a run: sizes that it leaves open come from CLIP and the data.

What is None in the config's model is as the frozen CLIP has it. The resolved config is written to
config.json, so that a run is described in full.
"""

import dataclasses
import functools
import json
import math
import operator
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip_jax.checkpoint import bundle
from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping, whole_file
from unclip_jax.core.renamed import RenamedWarning
from unclip_jax.data.config import DataConfig
from unclip_jax.data.sources import INFO_LIMIT, all_captions
from unclip_jax.models.clip import ClipConfig
from unclip_jax.models.stages import STAGES, StageSpec, spec_from_dict, stages_of
from unclip_jax.text.tokenizer import Tokenizer, train_tokenizer
from unclip_jax.train.config import EvalConfig, OptimConfig, TrainConfig
from unclip_jax.train.sections import NAMES, READS, RUN_SECTIONS, section_classes

SPEC_SECTIONS = ("model", "embedding_norm", "diffusion", "sampling")
"""Sections that describe the stage, of which each stage has its own."""

SECTIONS = ("seed", "stage", *NAMES, *SPEC_SECTIONS, *RUN_SECTIONS)

REQUIRED = ("seed", "stage", "model", *RUN_SECTIONS)

RANDOM = "random"
"""Value of config.clip for an untrained CLIP of the smallest size, to try a stage without one."""

SPEED_ONLY = ("threads", "prefetch", "cache_bytes")
"""Keys of config.data that change how fast batches are built, not what is in them."""

NAMED_FITTED = (r"(^|/)clip_(mean|std)$", r"(^|/)codec_(mean|components|std|dots)$")
"""Values of config.optim.frozen by which earlier configs named the fitted parameters."""

RETIRED = {
    "data": {"focus_concepts": "all", "focus_styles": [], "focus_times": 1},
    "optim": {"final_fraction": 0.0},
}
"""Fields that earlier configs had, by section, with the values at which they did nothing."""

SCALE = 17.2 / math.sqrt(1024)
"""Standard deviation of a coordinate of the diffused embedding: the paper's 17.2 at width 1024."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run but for its model, built and checked.

    Attributes:
        clip: bundle of the frozen CLIP, or `RANDOM`; empty for a stage that is trained without
            one, even if the config names it, so that one set of flags serves all stages.
        frozen: bundle of the other stage that this one is trained on (`StageDef.reads`), or
            `RANDOM`; empty where it reads none.
    """

    seed: int
    stage: str
    clip: str
    init_from: str
    pca: str
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    frozen: str = ""


def read_settings(config: Mapping[str, Any], *, needs_clip: bool = True) -> Settings:
    """Builds the sections that say how a stage is trained, and checks them.

    Args:
        needs_clip: whether a stage that is conditioned on CLIP, or trained on another stage, must
            name one.
    """
    for key in config:
        if key not in SECTIONS:
            raise UserError(f"unknown section config.{key}; sections: {', '.join(SECTIONS)}")
    missing = [key for key in REQUIRED if key not in config]
    if missing:
        raise UserError(f"the config lacks {', '.join('config.' + key for key in missing)}")
    stage, clip = config["stage"], config.get("clip", "")
    if stage not in STAGES:
        raise UserError(f"config.stage={stage!r} is not one of {', '.join(STAGES)}")
    row = STAGES[stage]
    for section in section_classes(stage):
        if config.get(section) is None:
            raise UserError(f"config.{section} is None; stage {stage} needs it")
    if not isinstance(config["seed"], int) or not 0 <= config["seed"] < 2**31:
        raise UserError(f"config.seed={config['seed']!r} must lie in 0..{2**31 - 1}")
    if needs_clip and row.needs_clip and not clip:
        raise UserError(
            f"stage {stage} needs a trained CLIP: pass --config.clip=BUNDLE (unclip export RUN)"
        )
    built = {name: build(cls, config[name], name) for name, cls in RUN_SECTIONS.items()}
    data, train = built["data"], built["train"]
    if row.needs_clip and (data.window or data.degrade != "none"):
        raise UserError(
            "config.data.window and config.data.degrade are for upsamplers: CLIP sees the whole "
            f"image that stage {stage} sees"
        )
    if train.prior_samples and not (row.kind == "decoder" and train.cache_clip):
        raise UserError(
            "config.train.prior_samples is for the decoder, with config.train.cache_clip=True"
        )
    names = {name: config.get(name, "") for name in NAMES if name not in READS}
    names["frozen"] = config.get(row.reads, "") if row.reads else ""
    if needs_clip and row.reads and not names["frozen"]:
        raise UserError(
            f"stage {stage} needs a trained {row.reads}: pass --config.{row.reads}=BUNDLE (unclip "
            "export RUN)"
        )
    if not row.needs_clip:
        names["clip"] = ""
    if names["pca"] and names["clip"] == RANDOM:
        raise UserError("config.pca is of a trained CLIP: it does not go with config.clip=random")
    return Settings(seed=config["seed"], stage=stage, **names, **built)


def check_stores(settings: Settings) -> None:
    """Refuses stores of embeddings that a run of these settings could not read."""
    data, held_out = settings.data, settings.eval
    if not data.embeddings:
        if held_out.embeddings:
            raise UserError(
                "config.eval.embeddings needs config.data.embeddings: the two go together"
            )
        return
    if not STAGES[settings.stage].gives_embedding:
        priors = " and ".join(stages_of("prior"))
        raise UserError(
            f"config.data.embeddings is for {priors}: stage {settings.stage} needs "
            "the images themselves, and makes z_i of the very crops that it sees"
        )
    if settings.clip in ("", RANDOM):
        raise UserError(
            "config.data.embeddings needs the CLIP that made the store: pass --config.clip=BUNDLE"
        )
    if held_out.batches and not held_out.embeddings:
        raise UserError(
            "config.data.embeddings with eval.batches > 0 needs the store of eval.split too: pass "
            f"--config.eval.embeddings=DIR, made with: {embed_command(settings, held_out.split)}"
        )
    if data.mix:
        raise UserError("config.data.mix is of sets of images: a store is of one set, leave it out")
    if data.captions != "random":
        raise UserError(
            f"config.data.captions={data.captions!r} is not applied to a store, whose every "
            "record is an example: leave it out"
        )


def embed_command(settings: Settings, split: str) -> str:
    """Returns the command that writes the store of embeddings of a split."""
    data = settings.data
    words = ["unclip", "embed", "--bundle", settings.clip, "--data", data.name, "--split", split]
    if data.concepts != "all":
        words += ["--concepts", data.concepts]
    if data.styles:
        words += ["--styles", ",".join(data.styles)]
    return shlex.join([*words, "--out", "DIR"])


def own_tokenizer(
    path: Path, source: Any, settings: Settings, context: int, *, is_fresh: bool
) -> Tokenizer:
    """Returns the tokenizer of a run that trains its own vocabulary: loaded, or trained and saved.

    A CLIP that starts from a bundle's parameters keeps that bundle's vocabulary: a new one would
    give its learned token embeddings to other words.

    Args:
        is_fresh: whether the run has no checkpoint yet; an existing file is then replaced.
    """
    if path.exists() and not is_fresh:
        return Tokenizer.load(path)
    if settings.init_from and STAGES[settings.stage].kind == "clip":
        given = bundle.load(settings.init_from, stages=[]).tokenizer
        if given is not None:
            tokenizer = Tokenizer(given.vocab, given.merges, context)
            tokenizer.save(path)
            return tokenizer
    vocab_size = settings.data.vocab_size
    if vocab_size is None:
        raise UserError(
            "config.data.vocab_size is not set: pass --config.data.vocab_size=8192 or another "
            "size of the vocabulary to train on the captions"
        )
    tokenizer = train_tokenizer(all_captions(source, INFO_LIMIT), vocab_size, context)
    tokenizer.save(path)
    return tokenizer


def resolve_model(
    config: Mapping[str, Any], clip: ClipConfig | None, vocab_size: int | None
) -> dict[str, Any]:
    """Returns the config with the sizes that its stage needs and that are not set filled in.

    Args:
        clip: gives the sizes of embeddings and captions; None leaves them open.
        vocab_size: of the stage's tokenizer; None leaves it open.

    Raises:
        UserError: a size that is set does not fit the CLIP.
    """
    config = json.loads(json.dumps(config))
    sizes: dict[str, Any] = {"vocab_size": vocab_size or None}
    if clip is not None:
        context, text_dim = clip.text.context, clip.text.width
        sizes |= {"image_dim": clip.embed_dim, "text_dim": text_dim}
        sizes |= {"context": context, "text_context": context}
        sizes["scale"] = SCALE * math.sqrt(clip.embed_dim)
    for path in make_spec(config).open_fields:
        *parents, name = path.split(".")
        functools.reduce(operator.getitem, parents, config)[name] = sizes.get(name)
    if clip is not None:
        _check_sizes(make_spec(config), sizes)
    return config


def _check_sizes(spec: StageSpec, sizes: Mapping[str, Any]) -> None:
    """Checks the sizes of a stage against those of its CLIP and tokenizer."""
    model = spec.model
    from_clip = ("text_dim", "context", "text_context") if model.reads_clip_states else ()
    for name in ("image_dim", *from_clip):
        value = getattr(model, name, sizes[name])
        if value != sizes[name]:
            raise _misfit(f"model.{name}", value, f"the CLIP's {sizes[name]}")
    encoder = getattr(model, "text_encoder", None)
    own, path = (model, "model") if encoder is None else (encoder, "model.text_encoder")
    least = sizes["vocab_size"] or 0
    if model.own_context is not None and own.vocab_size < least:
        raise _misfit(f"{path}.vocab_size", own.vocab_size, f"the tokenizer's {least}")


def _misfit(name: str, value: int, wanted: str) -> UserError:
    return UserError(
        f"config.{name}={value} does not fit {wanted}: pass --config.{name}=None, which takes that "
        "size, or another --config.clip"
    )


def make_spec(config: Mapping[str, Any]) -> StageSpec:
    """Builds the stage's spec from a config."""
    keys = ("stage", *SPEC_SECTIONS)
    return spec_from_dict({key: config[key] for key in keys if config.get(key) is not None})


def reads_store(settings: Settings) -> bool:
    """Whether batches come from a store of embeddings rather than from images."""
    return bool(settings.data.embeddings) and STAGES[settings.stage].gives_embedding


def image_sizes(settings: Settings, clip: ClipConfig | None) -> tuple[int, int | None]:
    """Returns the side of a stage's images, and that of the same crops for its CLIP.

    The latter is None if CLIP takes the stage's own images, or if no image tower runs. A prior sees
    images through its CLIP only: its images have the CLIP's size, whatever data.image_size is.
    """
    own = settings.data.image_size
    if clip is None or clip.vision is None or reads_store(settings):
        return own, None
    side = clip.vision.image_size
    if STAGES[settings.stage].gives_embedding:
        return side, None
    return own, None if settings.train.cache_clip or side == own else side


def encoders(settings: Settings, spec: StageSpec) -> tuple[str, ...]:
    """Returns which of the frozen CLIP's encoders a step runs: "image", "text", both or none.

    The batch contains the other features. A store has z_i and z_t, but not the states of the text
    tower.
    """
    if reads_store(settings):
        return ("text",) if spec.model.reads_clip_states else ()
    return () if settings.train.cache_clip else ("image", "text")


def changed_keys(before: Any, after: Any, path: str = "config") -> list[str]:
    """Lists the paths at which two configs differ; a missing string counts as empty."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = list(dict.fromkeys([*before, *after]))
        lists = (changed_keys(before.get(k), after.get(k), f"{path}.{k}") for k in keys)
        return [key for keys in lists for key in keys]
    return [] if before == after or (before is None and after == "") else [path]


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's config in a form that does not depend on the version that wrote it.

    Keys that a version did not know have their defaults; keys without an effect are left out.
    """
    built = {}
    for name, cls in RUN_SECTIONS.items():
        part, retired = dict(config[name]), RETIRED.get(name, {})
        gone = {key: part.pop(key) for key in retired if key in part}
        gone = {key: value for key, value in gone.items() if value != retired[key]}
        built[name] = to_dict(build(cls, part, name)) | gone
    for key in SPEED_ONLY:
        del built["data"][key]
    if built["optim"]["frozen"] in NAMED_FITTED:
        built["optim"]["frozen"] = ""
    spec = make_spec(config)
    unread: dict[str, Any] = {name: "" for name in READS if name != spec.row.reads}
    if not spec.row.needs_clip:
        unread |= {"clip": "", "identity": {**(config.get("identity") or {}), "clip": None}}
    return {**config, **_comparable_spec(spec), **built, **unread}


def _comparable_spec(spec: StageSpec) -> dict[str, Any]:
    """Returns a spec as a dict, without the sizes that its caption path does not use.

    Earlier versions filled these in too.
    """
    values = to_dict(spec)
    unused = ("vocab_size",) if spec.model.reads_clip_states else ("text_dim", "text_context")
    if spec.row.needs_clip:
        values["model"] |= dict.fromkeys(set(unused) & set(values["model"]), None)
    return values


def write_or_check_config(path: Path, config: Mapping[str, Any], *, is_fresh: bool) -> None:
    """Writes config.json in a fresh workdir; in a run that has begun, checks that it is unchanged.

    Args:
        is_fresh: whether the run has no checkpoint yet; an existing file is then replaced.
    """
    config = json.loads(json.dumps(config))
    if is_fresh or not path.exists():
        with whole_file(path) as part:
            part.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        return
    remedy = "delete it and run again with the config of this run, which writes it anew"
    before = read_mapping(path, remedy=remedy)
    for section in RUN_SECTIONS:
        if not isinstance(before.get(section), Mapping):
            raise UserError(f"{path} has no section {section!r}: {remedy}")
    with warnings.catch_warnings():  # the run's file has the names of the version that wrote it
        warnings.simplefilter("ignore", RenamedWarning)
        changed = changed_keys(comparable(before), comparable(config))
    if changed:
        raise UserError(
            f"{path.parent} was trained with another config; changed: {', '.join(changed)}. "
            "Use the same config, a new workdir, or init_from"
        )
