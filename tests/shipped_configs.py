"""The configs in the repository with all their variants, and the specs of their stages."""

import importlib
from pathlib import Path

from unclip_jax.cli.config_files import read_config
from unclip_jax.models.stages import STAGES, StageSpec
from unclip_jax.train.resolve import make_spec, read_settings, resolve_model

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = 600
PAPER = ("clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256", "upsampler_1024")


def variants_of(path: Path) -> list[str]:
    """Lists the variants of a config file, the full config first; [] if it is not a config."""
    module = importlib.import_module(".".join(("unclip_jax", *path.with_suffix("").parts)))
    return ["", *getattr(module, "VARIANTS", ())] if hasattr(module, "get_config") else []


FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py"))
CONFIGS = [
    f"{path}" + (f":{variant}" if variant else "")
    for path in FILES
    for variant in variants_of(path)
]


def clip_beside(name: str) -> str:
    """Names the CLIP's config of the same family and size."""
    path, _, variant = name.partition(":")
    return str(Path(path).with_name("clip.py")) + (":smoke" if variant.startswith("smoke") else "")


def spec_of(name: str, *flags: str) -> StageSpec:
    """Builds the spec of a config as `unclip train` does, with the CLIP of the same family."""
    config = read_config(str(ROOT / name), flags)
    clip = None
    if STAGES[config["stage"]].needs_clip:
        config["clip"] = "some_bundle"
        clip = spec_of(clip_beside(name)).model
    if STAGES[config["stage"]].reads:
        config[STAGES[config["stage"]].reads] = "some_bundle"
    read_settings(config)
    return make_spec(resolve_model(config, clip, VOCABULARY))


def paper_specs() -> dict[str, StageSpec]:
    """Returns the paper's stages at full size."""
    return {stage: spec_of(f"configs/paper/{stage}.py") for stage in PAPER}
