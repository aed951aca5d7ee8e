"""From a config to the run's settings: what the config leaves open is taken from CLIP and the data.

A 0 in one of OPEN's places means "as the frozen CLIP has it"; what comes out is written to
config.json, so that a run says in full what it is.
"""

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping, whole_file
from unclip_jax.data.config import DataConfig
from unclip_jax.data.sources import INFO_LIMIT, all_captions
from unclip_jax.models.clip import ClipConfig
from unclip_jax.models.stages import STAGES, StageSpec, spec_from_dict, stages_of
from unclip_jax.text.tokenizer import Tokenizer, train_tokenizer
from unclip_jax.train.config import EvalConfig, OptimConfig, TrainConfig

SECTIONS = (
    "seed",
    "stage",
    "clip",
    "init_from",
    "pca",
    "model",
    "embedding_norm",
    "diffusion",
    "sampling",
    "data",
    "optim",
    "train",
    "eval",
)

REQUIRED = ("seed", "stage", "model", "data", "optim", "train", "eval")

RANDOM = "random"
"""Value of config.clip for an untrained CLIP of the smallest size, to try a stage without one."""

NO_SAY = ("threads", "prefetch", "cache_bytes")
"""Keys of config.data that change how fast batches come, not what is in them."""

NAMED_FITTED = (r"(^|/)clip_(mean|std)$", r"(^|/)codec_(mean|components|std|dots)$")
"""Values of config.optim.frozen by which earlier configs named the fitted parameters."""

RETIRED = {
    "data": {"focus_concepts": "all", "focus_styles": [], "focus_times": 1},
    "optim": {"final_fraction": 0.0},
}
"""Fields that earlier configs had, by section, with the values at which they did nothing."""

SCALE = 17.2 / math.sqrt(1024)
"""Standard deviation of a coordinate of the diffused embedding: the paper's 17.2 at width 1024."""


SECTION_CLASSES = {
    "data": DataConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything a run is told, built and checked."""

    seed: int
    stage: str
    clip: str
    init_from: str
    pca: str
    data: DataConfig
    vocab_size: int
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig


def read_settings(config: Mapping[str, Any], *, needs_clip: bool = True) -> Settings:
    """Builds all sections but the model's, which waits for the vocabulary.

    Args:
        needs_clip: whether a stage that is conditioned on CLIP must name one.
    """
    for key in config:
        if key not in SECTIONS:
            raise UserError(f"unknown section config.{key}; sections: {', '.join(SECTIONS)}")
    missing = [key for key in REQUIRED if key not in config]
    if missing:
        raise UserError(f"the config lacks {', '.join('config.' + key for key in missing)}")
    data = dict(config["data"])
    vocab_size = data.pop("vocab_size", 0)
    if not isinstance(vocab_size, int) or not 0 <= vocab_size < 2**31:
        raise UserError(f"config.data.vocab_size={vocab_size!r} must lie in 0..{2**31 - 1}")
    stage, clip = config["stage"], config.get("clip", "")
    if stage not in STAGES:
        raise UserError(f"config.stage={stage!r} is not one of {', '.join(STAGES)}")
    row = STAGES[stage]
    if not isinstance(config["seed"], int) or not 0 <= config["seed"] < 2**31:
        raise UserError(f"config.seed={config['seed']!r} must lie in 0..{2**31 - 1}")
    if needs_clip and row.needs_clip and not clip:
        raise UserError(
            f"stage {stage} needs a trained CLIP: pass --config.clip=BUNDLE (unclip export RUN)"
        )
    train = build(TrainConfig, config["train"], "train")
    built = build(DataConfig, data, "data")
    if row.needs_clip and (built.window or built.degrade != "none"):
        raise UserError(
            "config.data.window and config.data.degrade are for upsamplers: CLIP sees the whole "
            f"image that stage {stage} sees"
        )
    if train.prior_samples and not (row.kind == "decoder" and train.cache_clip):
        raise UserError(
            "config.train.prior_samples is for the decoder, with config.train.cache_clip=True"
        )
    return Settings(
        seed=config["seed"],
        stage=stage,
        clip=clip,
        init_from=config.get("init_from", ""),
        pca=config.get("pca", ""),
        data=built,
        vocab_size=vocab_size,
        optim=build(OptimConfig, config["optim"], "optim"),
        train=train,
        eval=build(EvalConfig, config["eval"], "eval"),
    )


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
    """Returns the run's vocabulary: the one it has, else one trained on its captions and saved.

    Args:
        is_fresh: whether to replace what is there: it is of a start that took no step.
    """
    if path.exists() and not is_fresh:
        return Tokenizer.load(path)
    tokenizer = train_tokenizer(all_captions(source, INFO_LIMIT), settings.vocab_size, context)
    tokenizer.save(path)
    return tokenizer


def resolve_model(
    config: Mapping[str, Any], clip: ClipConfig | None, vocab_size: int
) -> dict[str, Any]:
    """Returns the config with the places that hold a 0 filled in from CLIP and the vocabulary."""
    config = json.loads(json.dumps(config))
    model, stage = config["model"], config["stage"]
    if STAGES[stage].kind == "clip":
        _fill(model["text"], "vocab_size", vocab_size)
    if clip is None:
        return config
    filled = {
        "image_dim": clip.embed_dim,
        "vocab_size": vocab_size,
        "context": clip.text.context,
    }
    if model.get("text", "clip_states") == "clip_states":
        filled |= {"text_dim": clip.text.width, "text_context": clip.text.context}
    for part in (model, model.get("text_encoder") or {}):
        for key, value in filled.items():
            _fill(part, key, value)
    if config.get("embedding_norm"):
        _fill(config["embedding_norm"], "scale", SCALE * math.sqrt(clip.embed_dim))
    return config


def make_spec(config: Mapping[str, Any]) -> StageSpec:
    """Builds the stage's spec from a resolved config."""
    keys = ("stage", "model", "embedding_norm", "diffusion", "sampling")
    return spec_from_dict({key: config[key] for key in keys if config.get(key) is not None})


def reads_store(settings: Settings) -> bool:
    """Whether batches come from a store of embeddings rather than from pictures."""
    return bool(settings.data.embeddings) and STAGES[settings.stage].gives_embedding


def image_sizes(settings: Settings, clip: ClipConfig | None) -> tuple[int, int | None]:
    """Returns the side of a stage's images, and that of the same crops for its CLIP.

    The latter is None where the stage's own images serve, or where no image tower runs. A prior
    looks at images through its CLIP alone: its own are of the CLIP's size, whatever it was told.
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

    The rest of the features comes with the batch. A store holds z_i and z_t, but not the states of
    the text tower.
    """
    if reads_store(settings):
        return ("text",) if spec.model.reads_clip_states else ()
    return () if settings.train.cache_clip else ("image", "text")


def changed_keys(before: Any, after: Any, path: str = "config") -> list[str]:
    """Lists the paths at which two configs differ; a missing text is an empty one."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = list(dict.fromkeys([*before, *after]))
        lists = (changed_keys(before.get(k), after.get(k), f"{path}.{k}") for k in keys)
        return [key for keys in lists for key in keys]
    return [] if before == after or (before is None and after == "") else [path]


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's config as two of them are compared, whichever version wrote them.

    Keys that a version did not know have their defaults, what has no say in a run is left out.
    """
    spec = to_dict(make_spec(config))
    if spec["model"].get("text", "clip_states") != "clip_states":
        spec["model"] |= dict.fromkeys({"text_dim", "text_context"} & set(spec["model"]), None)
    built = {}
    for name, cls in SECTION_CLASSES.items():
        part, retired = dict(config[name]), RETIRED.get(name, {})
        kept = {key: part.pop(key) for key in ("vocab_size", *retired) if key in part}
        kept = {key: value for key, value in kept.items() if value != retired.get(key, 0)}
        built[name] = to_dict(build(cls, part, name)) | kept
    for key in NO_SAY:
        del built["data"][key]
    if built["optim"]["frozen"] in NAMED_FITTED:
        built["optim"]["frozen"] = ""
    return {**config, **spec, **built}


def write_or_check_config(path: Path, config: Mapping[str, Any], *, is_fresh: bool) -> None:
    """Writes config.json in a fresh workdir; where training has begun it must be the same one.

    Args:
        is_fresh: whether there is no checkpoint yet; what a start that failed wrote is replaced.
    """
    config = json.loads(json.dumps(config))
    if is_fresh or not path.exists():
        with whole_file(path) as part:
            part.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        return
    remedy = "delete it and run again with the config of this run, which writes it anew"
    before = read_mapping(path, remedy=remedy)
    for section in ("data", "optim", "train", "eval"):
        if not isinstance(before.get(section), Mapping):
            raise UserError(f"{path} has no section {section!r}: {remedy}")
    changed = changed_keys(comparable(before), comparable(config))
    if changed:
        raise UserError(
            f"{path.parent} was trained with another config; changed: {', '.join(changed)}. "
            "Use the same config, a new workdir, or init_from"
        )


def _fill(part: dict[str, Any], key: str, value: Any) -> None:
    if key in part and part[key] in (None, 0):
        part[key] = value
