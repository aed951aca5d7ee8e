"""The sections of a training config, and the dataclass that each becomes."""

from unclip_jax.data.config import DataConfig
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.stages import ROWS, STAGES
from unclip_jax.train.config import EvalConfig, OptimConfig, TrainConfig

READS = tuple(dict.fromkeys(row.reads for row in ROWS if row.reads is not None))
"""Stages beside CLIP whose frozen networks others are trained on."""

NAMES = ("clip", *READS, "init_from", "pca")
"""Bundles and files at the top level of a config, "" if there is none."""

RUN_SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
}
"""The sections that say how a stage is trained; those of every stage."""


def spec_sections(stage: str) -> dict[str, type]:
    """Returns the sections that say what a stage is, which become its StageSpec."""
    row = STAGES[stage]
    sections: dict[str, type] = {"model": row.config}
    if row.takes_norm:
        sections["embedding_norm"] = EmbeddingNorm
    if row.is_diffused:
        sections["diffusion"] = DiffusionConfig
    if row.sampling is not None:
        sections["sampling"] = row.sampling
    return sections


def section_classes(stage: str) -> dict[str, type]:
    """Returns the dataclass of every section of a stage's config."""
    return spec_sections(stage) | RUN_SECTIONS
