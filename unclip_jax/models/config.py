"""Base class of the network configs: the properties that the rest of the package relies on.

The defaults are those of a network of images without captions; a config overrides what differs. No
code outside models/ needs to know which config class it has.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from unclip_jax.core.types import TextFeatures


class ModelConfig:
    """Base of the config dataclasses of `stages.STAGES`.

    Attributes:
        init_method: method of the module that declares all parameters; None is `__call__`.
        reads_text: whether the network reads `Cond.text`.
        reads_clip_states: whether it reads `TextFeatures.text_states`.
        own_context: positions of a text transformer that the stage trains itself, None without one.
        reads_tokens_alone: whether captions reach it as token ids at most, and it needs no z_i.
        clip_context: positions of the CLIP captions, None for a network without captions.
        required_cond: the fields of Cond of which at least one must be given.
        out_channels: channels of the output image, None where the config does not choose them.
        embedding_codec: of a network that writes z_i in codes, None of any other.
        num_codes: codes that are written one after the other, a run of the network each; 1 of a
            network that runs once. Diffusion has steps instead.
        frozen: config of the other network that training runs, beside CLIP, and that has its own
            stage (`StageDef.reads`); None without one.
        fitted_names: parameters that are fitted before training and never trained.
        open_fields: dotted names of required sizes that are still None; training fills them in from
            the frozen CLIP before it builds the network.
    """

    init_method: str | None = None
    reads_text: bool = False
    reads_clip_states: bool = False
    own_context: int | None = None
    reads_tokens_alone: bool = False
    clip_context: int | None = None
    required_cond: tuple[str, ...] = ()
    out_channels: int | None = None
    embedding_codec: Any = None
    num_codes: int = 1
    frozen: "ModelConfig | None" = None
    fitted_names: frozenset[str] = frozenset()
    open_fields: tuple[str, ...] = ()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch."""
        raise NotImplementedError

    def dummy_inputs(self, batch: int = 1) -> tuple[Any, ...]:
        """Returns zeros of the shapes and types that the network takes at sampling size."""
        raise NotImplementedError


def unset(cfg: Any, *names: str) -> tuple[str, ...]:
    """Returns the fields among `names` that are None."""
    return tuple(name for name in names if getattr(cfg, name) is None)


def zero_is_none(cfg: Any, *names: str) -> None:
    """Replaces zeros by None; in files of earlier versions a 0 means that a field is not set."""
    for name in names:
        if getattr(cfg, name) == 0:
            object.__setattr__(cfg, name, None)


def dummy_images(batch: int, size: int) -> Float[Array, "b h w 3"]:
    """Returns black images."""
    return jnp.zeros((batch, size, size, 3))


def dummy_text(
    batch: int, dim: int, context: int | None, width: int | None, own_context: int | None
) -> TextFeatures:
    """Returns text features of zeros.

    Args:
        context: positions of the states of the frozen CLIP's text tower.
        width: width of these states; None leaves them out.
        own_context: number of the stage's own token ids; None leaves them out.
    """
    states = None if width is None else jnp.zeros((batch, context, width))
    return TextFeatures(
        text_emb=jnp.zeros((batch, dim)),
        text_states=states,
        text_mask=None if states is None else jnp.ones((batch, context), bool),
        tokens=None if own_context is None else jnp.zeros((batch, own_context), jnp.int32),
    )
