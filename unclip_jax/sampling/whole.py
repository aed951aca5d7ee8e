"""Stages that are sampled by one device program as a whole, without levels of noise.

What each draws is a row of DRAWS, by the task that trained it: a pure function of arrays.
"""

import functools
from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from unclip_jax.core.types import Cond, Params, TextFeatures
from unclip_jax.diffusion.samplers import NoiseFn
from unclip_jax.models.stages import TaskName
from unclip_jax.sampling import codes, dvae, parallel, tokens
from unclip_jax.sampling.programs import ProgramKey, example_noise

Draw = Callable[[ProgramKey, Params, TextFeatures | None, Any, Cond, NoiseFn], Array]
"""(program, params, uncond_text, guidance scale, cond, noise) -> the stage's result."""

DRAWS: dict[TaskName, Draw] = {
    "codes": codes.draw_embeddings,
    "dvae": dvae.draw_images,
    "tokens": tokens.draw_tokens,
}


def draw(
    program: ProgramKey,
    params: Params,
    uncond_text: TextFeatures | None,
    scale: Any,
    cond: Cond,
    noise: NoiseFn,
) -> Array:
    """Draws a stage's result, as a pure function of arrays."""
    function = DRAWS[program.spec.row.task]
    return function(program, params, uncond_text, scale, cond, noise)


@functools.lru_cache(maxsize=64)
def whole_program(program: ProgramKey) -> Callable[..., Array]:
    """Compiles (params, uncond_text, scale, cond, keys) -> `draw`."""

    def drawn(params: Any, uncond_text: Any, scale: Any, cond: Any, keys: Any) -> Array:
        noise = example_noise(program, keys)
        return draw(program, params, uncond_text, scale, cond, noise)

    return parallel.over_devices(drawn, shared=(0, 1, 2), key=("whole", program))
