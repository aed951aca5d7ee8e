"""Accelerators: peak rate, memory and bandwidth of one chip, as published by their vendors.

TPUs: Google Cloud's system architecture page of each generation. GPUs: NVIDIA's data sheets of the
SXM form, dense (without sparsity). Rates are for bfloat16 matrix products. Link rates are the sum
over a chip's links in one direction (half of the "bidirectional" number); for GPUs NVLink's.
"""

import dataclasses
import math
import re

from unclip_jax.core.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        flops: bfloat16 operations per second.
        hbm_bytes: size of its memory.
        hbm_rate: memory bandwidth in bytes per second.
        link_rate: bytes per second that a chip can send to its neighbors.
        device_kinds: prefixes of `jax.Device.device_kind`, in lower case.
        lanes: side of the matrix unit, to which sizes are filled up; 16 of a GPU's tensor cores.
    """

    name: str
    flops: float
    hbm_bytes: int
    hbm_rate: float
    link_rate: float
    device_kinds: tuple[str, ...]
    lanes: int = 16

    @property
    def is_tpu(self) -> bool:
        """Whether libtpu can compile for it."""
        return self.device_kinds[0].startswith("tpu")


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 1228e9, 300e9, ("tpu v4",), 128),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 200e9, ("tpu v5 lite", "tpu v5e"), 128),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 600e9, ("tpu v5p", "tpu v5"), 128),
        Chip("v6e", 918e12, 32 * GIB, 1640e9, 400e9, ("tpu v6 lite", "tpu v6e"), 256),
        Chip("a100", 312e12, 80 * 10**9, 2039e9, 300e9, ("nvidia a100",)),
        Chip("h100", 989.4e12, 80 * 10**9, 3350e9, 450e9, ("nvidia h100",)),
        Chip("h200", 989.4e12, 141 * 10**9, 4800e9, 450e9, ("nvidia h200",)),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind and the shape of their network."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """CHIP:SHAPE, as `parse_topology` reads it."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"


def parse_topology(text: str) -> Topology:
    """Reads "v5p:4x4x4" (64 chips in a torus) or "h100:8"."""
    match = re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+){0,2})", text.strip().lower(), re.ASCII)
    if match is None or match[1] not in CHIPS:
        raise UserError(
            f"topology {text!r}: write CHIP:SHAPE, such as v5p:4x4x4 or h100:8; chips: "
            f"{', '.join(CHIPS)}"
        )
    shape = tuple(int(side) for side in match[2].split("x"))
    if not math.prod(shape):
        raise UserError(f"topology {text!r} has a side of 0 chips")
    return Topology(CHIPS[match[1]], shape)


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip of a `jax.Device.device_kind`; None for a CPU or an unknown chip."""
    kind, best = device_kind.lower(), ""
    found = None
    for chip in CHIPS.values():
        for prefix in chip.device_kinds:
            if kind.startswith(prefix) and len(prefix) > len(best):
                best, found = prefix, chip
    return found
