"""Which kernel computes attention: the environment's choice, and where it does not apply.

`UNCLIP_ATTENTION=cudnn` takes cuDNN's fused attention on NVIDIA GPUs, in training and in sampling,
wherever it can (nn/attention.py); "own", the default, is the package's on every platform. A program
holds the choice of the time it was traced.
"""

import contextlib
import contextvars
import os
from collections.abc import Iterator

import jax

from unclip_jax.core.errors import UserError

VARIABLE = "UNCLIP_ATTENTION"
KERNELS = ("own", "cudnn")

_is_own: contextvars.ContextVar[bool] = contextvars.ContextVar("own_attention", default=False)


def chosen_attention() -> str:
    """Returns one of KERNELS, as the environment says.

    Raises:
        UserError: the variable has another value.
    """
    name = os.environ.get(VARIABLE) or KERNELS[0]
    if name not in KERNELS:
        raise UserError(f"{VARIABLE}={name}: write one of {', '.join(KERNELS)}")
    return name


def uses_cudnn() -> bool:
    """Whether a program that is traced now may take cuDNN's attention: on a GPU, if chosen."""
    chosen = chosen_attention() == "cudnn" and not _is_own.get()
    return chosen and jax.default_backend() == "gpu"


@contextlib.contextmanager
def own_attention() -> Iterator[None]:
    """Traces with the package's own attention: to count its work, or for several platforms."""
    token = _is_own.set(True)
    try:
        yield
    finally:
        _is_own.reset(token)
