"""Memory and traffic of a gradient that is traced but not compiled: what it keeps, what it moves.

The gradient is traced once, at ROWS examples. ROWS is a prime that divides no other size, so that
an array grows with the batch as often as its size is a multiple of ROWS: once for an activation,
twice for CLIP's matrix of similarities. What a chip holds follows for any number of examples.

Compilers fuse elementwise operations into loops over arrays. The model of that: an array is written
to memory if a matrix product, convolution or scan makes or takes it, or if computing it again would
read more than SLACK times its bytes; every other one is computed again where it is needed. It knows
no scheduler and no layout: estimates rank candidates, compilers decide (docs/scale.md says how far
they are apart).
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.extend.core import Literal
from jaxtyping import Float64

from unclip_jax.core.flops import count

ROWS = 1009
"""Examples of the trace."""

SLACK = 1.5

INLINED = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2")
INLINED += ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")

PRODUCTS = ("dot_general", "conv_general_dilated")

WHOLE = ("while", "cond", "sort", "top_k", "scatter", "scatter-add", "dynamic_update_slice")
"""Further operations whose operands and results are arrays in memory."""

FOLDS = ("reduce_", "argm", "cum")
"""Beginnings of the names of operations that read a fused operand, and write their result."""

ROUNDING = "reduce_precision"
"""No fold, for all its name: JAX rounds what a rematerialization keeps, each number by itself."""

Size = Float64[np.ndarray, "3"]
"""Bytes that do not grow with the batch, per example, and per pair of examples."""


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What the gradient of a mini-batch takes.

    Attributes:
        live: bytes that are held, at every step of the computation.
        moved: bytes that products, scans, folds and fused loops read and write.
        products: bytes of the results of products.
        flops: of products, per example.
        padded_flops: the same where the chip's matrix unit fills up sizes with zeros.
    """

    live: Float64[np.ndarray, "t 3"]
    moved: Size
    products: Size
    flops: float
    padded_flops: float

    def activation_bytes(self, rows: float, all_rows: float) -> float:
        """Returns the peak of a chip's activations.

        Args:
            rows: examples of a chip and micro-batch.
            all_rows: of all chips, which CLIP's loss compares with each other.
        """
        return float((self.live @ np.array([0.0, rows, rows * all_rows])).max(initial=0.0))

    def moved_bytes(self, rows: float, all_rows: float) -> float:
        """Returns the memory traffic of a chip and micro-batch."""
        return float(self.moved @ np.array([1.0, rows, rows * all_rows]))


def footprint(jaxpr: Any, lanes: int) -> Footprint:
    """Returns the footprint of a traced gradient of ROWS examples.

    Args:
        lanes: side of the chip's matrix unit.
    """
    walk = _Walk(lanes)
    live = walk.region(jaxpr, jaxpr.outvars)
    return Footprint(
        live=np.array(live or [np.zeros(3)]),
        moved=walk.moved,
        products=walk.products,
        flops=count(jaxpr).flops / ROWS,
        padded_flops=walk.padded / ROWS,
    )


def size_of(aval: Any) -> Size:
    """Returns the bytes of an array by how they grow with the batch."""
    elements, power = math.prod(aval.shape), 0
    while power < 2 and elements and elements % ROWS == 0:
        elements, power = elements // ROWS, power + 1
    size = np.zeros(3)
    size[power] = elements * aval.dtype.itemsize
    return size


class _Region:
    """The arrays of one jaxpr with its calls inlined, as numbers.

    Attributes:
        sizes: of every array.
        parents: arrays that one is computed from by elementwise operations.
        stored: arrays in memory.
        born: time at which an array is written.
        last: time of an array's last use.
        steps: what a scan's body holds, at every time; [] where none runs.
    """

    def __init__(self) -> None:
        self.sizes: list[Size] = []
        self.parents: list[tuple[int, ...]] = []
        self.stored: set[int] = set()
        self.born: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.steps: list[list[Size]] = []

    def add(self, aval: Any) -> int:
        self.sizes.append(size_of(aval))
        self.parents.append(())
        return len(self.sizes) - 1

    def sources(self, numbers: Iterable[int]) -> set[int]:
        """Returns the arrays in memory that some arrays are computed from."""
        found, seen, left = set(), set(), list(numbers)
        while left:
            number = left.pop()
            if number in self.stored:
                found.add(number)
            elif number not in seen:
                seen.add(number)
                left += self.parents[number]
        return found

    def size(self, numbers: Iterable[int]) -> Size:
        """Returns the bytes of some arrays together."""
        return sum((self.sizes[n] for n in numbers), np.zeros(3))

    def read(self, numbers: Iterable[int]) -> Size:
        """Returns the bytes in memory behind some arrays, which live until now."""
        found = self.sources(numbers)
        self.last |= dict.fromkeys(found, len(self.steps))
        return self.size(found)

    def write(self, number: int) -> Size:
        """Puts an array into memory at this step; returns its bytes."""
        self.stored.add(number)
        self.born[number] = self.last[number] = len(self.steps)
        return self.sizes[number]

    def live(self) -> list[Size]:
        """Returns what is held at every time; arrays from outside are not counted."""
        change = np.zeros((len(self.steps) + 1, 3))
        for number, start in self.born.items():
            change[start] += self.sizes[number]
            change[self.last[number] + 1] -= self.sizes[number]
        held, found = np.cumsum(change, axis=0), []
        for time, inner in enumerate(self.steps):
            found += [held[time] + more for more in inner] or [held[time]]
        return found


class _Walk:
    """Adds up the traffic of a jaxpr, and lists what it holds."""

    def __init__(self, lanes: int):
        self.lanes = lanes
        self.moved, self.products, self.padded = np.zeros(3), np.zeros(3), 0.0
        self._times = 1  # how often the region under way runs

    def region(self, jaxpr: Any, kept: list[Any]) -> list[Size]:
        """Returns what a jaxpr holds over time, without its inputs.

        Args:
            kept: its results, which are arrays in memory and held to the end.
        """
        region, names = _Region(), {}
        for var in (*jaxpr.constvars, *jaxpr.invars):
            names[var] = number = region.add(var.aval)
            region.stored.add(number)
        self._equations(region, jaxpr, names)
        ends = [names[var] for var in kept if not isinstance(var, Literal)]
        self._store(region, ends)
        region.read(ends)
        region.steps.append([])
        return region.live()

    def _equations(self, region: _Region, jaxpr: Any, names: dict[Any, int]) -> None:
        for eqn in jaxpr.eqns:
            inner = _inlined(eqn)
            if inner is None:
                taken = [names[v] for v in eqn.invars if not isinstance(v, Literal)]
                made = [region.add(var.aval) for var in eqn.outvars]
                self._equation(region, eqn, taken, made)
                region.steps.append(self._inner)
            else:
                own = {var: region.add(var.aval) for var in inner.constvars}
                for var, outer in zip(inner.invars, eqn.invars, strict=True):
                    own[var] = self._number(region, names, outer)
                self._equations(region, inner, own)
                made = [self._number(region, own, var) for var in inner.outvars]
            names.update(zip(eqn.outvars, made, strict=True))

    def _number(self, region: _Region, names: dict[Any, int], var: Any) -> int:
        return region.add(var.aval) if isinstance(var, Literal) else names[var]

    def _equation(self, region: _Region, eqn: Any, taken: list[int], made: list[int]) -> None:
        name, self._inner = eqn.primitive.name, []
        if name in PRODUCTS or name in WHOLE or name == "scan":
            self._store(region, taken)
            self._move(region.read(taken))
            if name == "scan":
                self._scan(eqn)
            for number in made:
                self._move(region.write(number))
            if name in PRODUCTS:
                self.products += self._times * region.sizes[made[0]]
                self.padded += self._times * padded_flops(eqn, self.lanes)
        elif name.startswith(FOLDS) and name != ROUNDING:
            self._move(region.read(taken))
            for number in made:
                self._move(region.write(number))
        else:
            bytes_read = region.size(region.sources(taken)) @ _TRACED
            for number in made:
                region.parents[number] = tuple(taken)
                if bytes_read > SLACK * region.sizes[number] @ _TRACED:
                    self._store(region, [number])

    def _scan(self, eqn: Any) -> None:
        """Walks the body of a scan once; its traffic counts as often as it runs."""
        body, before = eqn.params["jaxpr"].jaxpr, self._times
        self._times *= eqn.params["length"]
        inner = self.region(body, body.outvars)
        self._times, self._inner = before, inner

    def _store(self, region: _Region, numbers: list[int]) -> None:
        """Writes those arrays to memory that are not there."""
        for number in numbers:
            if number not in region.stored and region.sizes[number].any():
                self._move(region.read([number]))
                self._move(region.write(number))

    def _move(self, size: Size) -> None:
        self.moved = self.moved + self._times * size


_TRACED = np.array([1.0, ROWS, ROWS**2])


def _inlined(eqn: Any) -> Any:
    """Returns the jaxpr that an equation only calls; None for any other equation."""
    if eqn.primitive.name not in INLINED:
        return None
    params = eqn.params
    inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
    return getattr(inner, "jaxpr", inner)


def padded_flops(eqn: Any, lanes: int) -> float:
    """Returns the FLOPs of a product or convolution with its sizes filled up to the matrix unit's.

    The contracted sizes are filled up, and the rows or the columns of the result, whichever takes
    less: the unit holds one operand, and the other is streamed through it.
    """
    left, right = (var.aval.shape for var in eqn.invars)
    out = math.prod(eqn.outvars[0].aval.shape)
    numbers = eqn.params["dimension_numbers"]
    if eqn.primitive.name == "dot_general":
        (contracted, other), (batched, _) = numbers
        inner = math.prod(left[i] for i in contracted)
        batch = math.prod(left[i] for i in batched)
        columns = math.prod(right) // math.prod(right[i] for i in other) // batch
    else:
        out_axis, in_axis, *spatial = numbers.rhs_spec
        inner = right[in_axis] * math.prod(right[i] for i in spatial)
        batch, columns = eqn.params["feature_group_count"], right[out_axis]
    rows = out // max(batch * columns, 1)
    fill = lambda n: n if n % ROWS == 0 else -(-n // lanes) * lanes  # noqa: E731
    streamed = min(rows * fill(columns), fill(rows) * columns)
    return 2.0 * batch * fill(inner) * streamed
