"""unclip_jax: DALL-E 2 (unCLIP) in JAX and Flax. The public calls, imported when first used.

    import jax, unclip_jax
    model = unclip_jax.load("emoji")
    images = unclip_jax.sample(model, ["a red heart"], key=jax.random.key(0), num=4)

See api.py for what each call takes and returns.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Cond",
    "TextFeatures",
    "UserError",
    "classify",
    "denoise_fn",
    "edit",
    "embed_image",
    "embed_text",
    "inpaint",
    "interpolate",
    "load",
    "mix",
    "predict",
    "reconstruct",
    "run_stage",
    "sample",
    "save",
    "vary",
    "x0_denoiser",
]


def __getattr__(name: str) -> Any:
    """Imports the public calls on first use (PEP 562)."""
    if name in __all__:
        return getattr(importlib.import_module("unclip_jax.api"), name)
    raise AttributeError(f"module 'unclip_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names, without what this module imports for itself."""
    return sorted((globals().keys() - {"Any", "importlib"}) | set(__all__))
