"""Messages name what a user wrote: a field by its own path, never a variable of the program."""

import ast
from pathlib import Path

import pytest

import unclip_jax
from tests.toy import toy_specs, unet
from unclip_jax.data.pipeline import DataConfig
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.models.clip import VisionConfig
from unclip_jax.models.pca_codec import CodecConfig
from unclip_jax.models.prior_ar import PriorArConfig
from unclip_jax.models.stages import StageSpec
from unclip_jax.models.upsampler import UpsamplerConfig
from unclip_jax.nn.transformer import TransformerConfig

PACKAGE = Path(unclip_jax.__file__).parent


def described(node):
    """Yields the f-strings of a module that print an attribute as {object.field=}."""
    for part in ast.walk(node):
        if not isinstance(part, ast.JoinedStr):
            continue
        for text, value in zip(part.values, part.values[1:], strict=False):
            is_named = isinstance(text, ast.Constant) and isinstance(value, ast.FormattedValue)
            if is_named and isinstance(value.value, ast.Attribute):
                source = ast.unparse(value.value)
                if source.startswith(("self.", "cfg.")) and text.value.endswith(f"{source}="):
                    yield source, value.lineno


def test_no_message_prints_a_programs_variable():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {source}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for source, line in described(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def prior_ar(**fields):
    stack = TransformerConfig(width=16, layers=1, heads=2)
    text = {"text": "clip_states", "text_dim": 16}
    return PriorArConfig(stack, CodecConfig(components=50), **{"image_dim": 16, **text, **fields})


SPECS = toy_specs(540)
WIDE = SPECS["upsampler_256"].model.unet


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: StageSpec(
                "decoder",
                SPECS["decoder"].model,
                SPECS["decoder"].diffusion,
                SamplingConfig(num_candidates=2),
            ),
            "sampling.num_candidates=2: only a prior keeps the best",
        ),
        (
            lambda: StageSpec("decoder", SPECS["decoder"].model, DiffusionConfig()),
            "model.unet.out_channels=6 does not suit diffusion.variance='fixed_small'",
        ),
        (lambda: prior_ar(), "codec.components=50 exceeds image_dim=16"),
        (
            lambda: prior_ar(image_dim=64, positions=7),
            "positions=7 must be at least 52, for codes and prefix",
        ),
        (
            lambda: VisionConfig(image_size=30, patch_size=8, width=16, layers=1, heads=2),
            "image_size=30 must be a multiple of patch_size=8",
        ),
        (
            lambda: UpsamplerConfig(unet(16), low_res_size=8),
            "unet.in_channels=3 must be 6: x_t and the low-res image",
        ),
        (lambda: DataConfig("shapes", window=90), "window=90 must lie in [0, 64]"),
    ],
)
def test_a_refusal_names_the_field_as_a_config_does(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
