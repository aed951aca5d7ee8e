"""FLOPs and memory traffic of a traced program: matrix products and convolutions only.

XLA's cost analysis counts the body of a loop once, regardless of its length. This module walks the
jaxpr and multiplies a scan's body by its length. One multiply-add is two operations. Elementwise
operations are not counted, as is usual for model FLOPs.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax

from unclip_jax.core.kernels import own_attention


@dataclasses.dataclass(frozen=True)
class Work:
    """Operations and memory traffic of a program.

    Attributes:
        flops: operations of its matrix products and convolutions.
        bytes: size of their operands and results, each read or written once: the memory traffic
            if everything elementwise is fused into them.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Returns the work of two programs run one after the other."""
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def times(self, count: int) -> "Work":
        """Returns the work of `count` runs."""
        return Work(self.flops * count, self.bytes * count)


def work_of(function: Callable[..., Any], *args: Any) -> Work:
    """Traces `function` with (abstract) arguments and counts its work; nothing is computed."""
    with own_attention():  # the products inside another kernel would not be seen
        return count(jax.make_jaxpr(function)(*args).jaxpr)


def count(jaxpr: Any) -> Work:
    """Counts the work of a jaxpr and everything it calls."""
    return sum((_count_eqn(eqn) for eqn in jaxpr.eqns), Work())


def _count_eqn(eqn: Any) -> Work:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        return _work(eqn, _dot_flops(eqn))
    if name == "conv_general_dilated":
        return _work(eqn, _conv_flops(eqn))
    if name == "scan":
        return count(params["jaxpr"].jaxpr).times(params["length"])
    if name == "while":
        body = count(params["body_jaxpr"].jaxpr)
        if body.flops:
            raise ValueError(
                "cannot count a while loop with matrix products: its trip count is unknown"
            )
        return Work()
    if name == "cond":
        return max((count(branch.jaxpr) for branch in params["branches"]), key=lambda w: w.flops)
    return sum((count(inner) for inner in _inner(params.values())), Work())


def _inner(values: Iterable[Any]) -> list[Any]:
    """Lists the jaxprs among an equation's parameters."""
    found = []
    for value in values:
        if isinstance(value, tuple | list):
            found += _inner(value)
        elif hasattr(value, "eqns"):
            found.append(getattr(value, "jaxpr", value))
    return found


def _work(eqn: Any, flops: float) -> Work:
    avals = [var.aval for var in (*eqn.invars, *eqn.outvars)]
    return Work(flops, float(sum(math.prod(a.shape) * a.dtype.itemsize for a in avals)))


def _dot_flops(eqn: Any) -> float:
    """2 x elements of the result x contracted elements."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)


def _conv_flops(eqn: Any) -> float:
    """2 x elements of the result x (kernel positions x inputs of a group); padding counts too."""
    kernel = eqn.invars[1].aval.shape
    _, in_axis, *spatial = eqn.params["dimension_numbers"].rhs_spec
    taps = math.prod(kernel[i] for i in spatial) * kernel[in_axis]
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * taps
