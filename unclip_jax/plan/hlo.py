"""Counts XLA's optimized programs (HLO text): collectives, FLOPs, the compiler's cycle estimates.

A computation counts as often as it runs: the body of a loop is multiplied by the loop's trip count,
which XLA's own cost analysis does not do. Trip counts come from `known_trip_count` or, where the
compiler writes none (TPU), from the bound that the loop's condition compares with.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "tf32": 32, "c64": 64, "c128": 128}

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_OPCODE = re.compile(r" ([a-z][\w-]*)\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|branch_computations)=\{?((?:%[\w.-]+(?:, )?)+)\}?")
_LOOP = re.compile(r"condition=%([\w.-]+), body=%([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count"?:? ?\{"?n"?:"?(\d+)')
_NAME = re.compile(r"%([\w.-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of communication of a program, on one device.

    Attributes:
        count: number of times in one run of the program.
        bytes: of the whole arrays (the larger of operands and results), all together.
    """

    count: int = 0
    bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one run of a program, on one device.

    Attributes:
        collectives: by kind.
        flops: of products and convolutions, loops counted as often as they run, without padding.
        cycles: the compiler's estimate, loops counted as often as they run; 0 if it gives none.
        cycles_once: the same with every loop counted once.
        unknown_loops: loops without a readable trip count; they count once.
    """

    collectives: dict[str, Collective] = dataclasses.field(default_factory=dict)
    flops: int = 0
    cycles: int = 0
    cycles_once: int = 0
    unknown_loops: int = 0


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    operands: str
    rest: str


def cost_of(text: str) -> Cost:
    """Counts one run of the entry computation of a module's text."""
    computations, entry = _parse(text)
    return _Counter(computations).cost(entry)


def shape_bytes(shape: str) -> int:
    """Returns the bytes of a shape, a tuple's all together: "(f32[2,3]{1,0}, s8[4])" is 28."""
    total = 0
    for kind, sides in _ARRAY.findall(shape):
        bits = BITS.get(kind)
        if bits is None:
            found = re.match(r"[a-z]+(\d+)", kind)
            bits = int(found[1]) if found else 0
        count = 1
        for side in filter(None, sides.split(",")):
            count *= int(side)
        total += (count * bits + 7) // 8
    return total


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations: dict[str, list[_Instruction]] = {}
    entry, lines = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            lines = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif lines is not None:
            instruction = _read(line)
            if instruction is not None:
                lines.append(instruction)
    if not entry:
        raise ValueError("no entry computation: this is not the text of an HLO module")
    return computations, entry


def _read(line: str) -> _Instruction | None:
    match = _INSTRUCTION.match(line)
    opcode = _OPCODE.search(" " + match[2]) if match else None
    if opcode is None:
        return None
    start, end = opcode.start() - 1, opcode.end() - 1
    close = match[2].find(")", end)
    shape, rest = match[2][: max(start, 0)], match[2][close:]
    return _Instruction(match[1], shape, opcode[1], match[2][end:close], rest)


class _Counter:
    """Adds up computations; each one is counted once and cached."""

    def __init__(self, computations: dict[str, list[_Instruction]]):
        self._computations = computations
        self.cost = functools.cache(self._cost)

    def _cost(self, name: str) -> Cost:
        instructions = self._computations.get(name, [])
        shapes = {one.name: one.shape for one in instructions}
        return _sum(self._one(one, shapes, name) for one in instructions)

    def _one(self, one: _Instruction, shapes: dict[str, str], home: str) -> Cost:
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            return self._collective(kind, one, shapes, home)
        if one.opcode == "while":
            condition, body = _LOOP.search(one.rest).groups()
            trips = self._trip_count(one, condition)
            return _times(self.cost(body), 1 if trips is None else trips, trips is None)
        if one.opcode in ("convolution", "dot"):
            return Cost(flops=_flops(one, shapes))
        found = _CYCLES.search(one.rest)
        cycles = int(found[1]) if found else 0
        called = _CALLED.search(one.rest)
        names = _NAME.findall(called[1]) if called else []
        inner = _sum(self.cost(name) for name in names)
        if found:  # a fusion's own estimate replaces those of its parts
            inner = dataclasses.replace(inner, cycles=cycles, cycles_once=cycles)
        return inner

    def _collective(self, kind: str, one: _Instruction, shapes: dict[str, str], home: str) -> Cost:
        names = _NAME.findall(one.operands)
        operands = sum(shape_bytes(shapes.get(name, "")) for name in names)
        result = shape_bytes(one.shape)
        if one.opcode.endswith("-start"):
            result -= operands  # its result includes its operands
        scatters = kind == "all-reduce" and "all-reduce-scatter" in home
        kind = "reduce-scatter" if scatters else kind
        found = _CYCLES.search(one.rest)
        cycles = int(found[1]) if found else 0
        sent = {kind: Collective(1, max(operands, result))}
        return Cost(sent, cycles=cycles, cycles_once=cycles)

    def _trip_count(self, loop: _Instruction, condition: str) -> int | None:
        known = _TRIPS.search(loop.rest)
        if known:
            return int(known[1])
        bounds = self._constants(condition)
        return bounds.pop() if len(bounds) == 1 else None

    def _constants(self, name: str) -> set[int]:
        """Returns the integers that a computation and those it calls compare with."""
        found: set[int] = set()
        for one in self._computations.get(name, []):
            if one.opcode == "constant" and one.shape.startswith(("s32[]", "u32[]", "s64[]")):
                found.add(int(one.operands.strip("()")))
            called = _CALLED.search(one.rest)
            for inner in _NAME.findall(called[1]) if called else []:
                found |= self._constants(inner)
        return found


def _sum(costs: Iterable[Cost]) -> Cost:
    collectives: dict[str, Collective] = {}
    flops = cycles = once = unknown = 0
    for cost in costs:
        for kind, more in cost.collectives.items():
            have = collectives.get(kind, Collective())
            collectives[kind] = Collective(have.count + more.count, have.bytes + more.bytes)
        flops += cost.flops
        cycles += cost.cycles
        once += cost.cycles_once
        unknown += cost.unknown_loops
    return Cost(collectives, flops, cycles, once, unknown)


def _times(cost: Cost, trips: int, unknown: bool) -> Cost:
    collectives = {
        kind: Collective(one.count * trips, one.bytes * trips)
        for kind, one in cost.collectives.items()
    }
    more = cost.unknown_loops + int(unknown)
    flops, cycles = cost.flops * trips, cost.cycles * trips
    return Cost(collectives, flops, cycles, cost.cycles_once, more)


def _sides(shape: str) -> list[int]:
    return [int(side) for side in filter(None, _ARRAY.search(shape)[2].split(","))]


def _flops(one: _Instruction, shapes: dict[str, str]) -> int:
    """Returns 2 x multiply-adds of a product or convolution, without padding and holes.

    On a TPU batched products are convolutions too: dilated so far that most of a window falls into
    holes.
    """
    left, right = (_sides(shapes[name]) for name in _NAME.findall(one.operands)[:2])
    result = _sides(one.shape)
    if one.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)[1]
        sides = [left[int(i)] for i in filter(None, contracted.split(","))]
        return 2 * math.prod(result) * math.prod(sides)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.rest).groups()
    window = re.search(r"window=\{([^}]*)\}", one.rest)
    fields = dict(item.split("=") for item in window[1].split()) if window else {}
    count = result[labels[2].index("b")] * result[labels[2].index("f")]
    count *= right[labels[1].index("i")]
    for d in range(len(labels[0]) - 2):
        sizes = left[labels[0].index(str(d))], result[labels[2].index(str(d))]
        count *= _hits(*sizes, {k: v.split("x")[d] for k, v in fields.items() if "x" in v or not d})
    return 2 * count


def _hits(size: int, results: int, window: dict[str, str]) -> int:
    """Counts the pairs (result, window position) of one dimension that read an input."""
    stride, dilate, spread = (
        int(window.get(name, 1)) for name in ("stride", "lhs_dilate", "rhs_dilate")
    )
    before = int(window.get("pad", "0_0").split("_")[0])
    hits = 0
    for result in range(results):
        for position in range(int(window["size"])):
            place = result * stride + position * spread - before
            hits += place % dilate == 0 and 0 <= place // dilate < size
    return hits
