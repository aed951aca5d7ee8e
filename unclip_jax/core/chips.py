"""Accelerators: peak rate, memory and bandwidth of one chip, as their makers publish them.

TPU figures: Google Cloud's system architecture pages of each generation. GPU figures: NVIDIA's data
sheets of the SXM form, dense (without sparsity). Rates are of bfloat16 matrix products. Links: all
of a chip's together, one way (half of the "bidirectional" figure); GPUs' are NVLink's.
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
        flops: bfloat16 operations a second.
        hbm_bytes: its memory.
        hbm_rate: bytes a second between memory and chip.
        link_rate: bytes a second that a chip can send to its neighbours.
        device_kinds: how JAX names it (`jax.Device.device_kind`), lower case, as a prefix.
    """

    name: str
    flops: float
    hbm_bytes: int
    hbm_rate: float
    link_rate: float
    device_kinds: tuple[str, ...]

    @property
    def is_tpu(self) -> bool:
        """Whether libtpu can compile for it."""
        return self.device_kinds[0].startswith("tpu")


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 1228e9, 300e9, ("tpu v4",)),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 200e9, ("tpu v5 lite", "tpu v5e")),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 600e9, ("tpu v5p", "tpu v5")),
        Chip("v6e", 918e12, 32 * GIB, 1640e9, 400e9, ("tpu v6 lite", "tpu v6e")),
        Chip("a100", 312e12, 80 * 10**9, 2039e9, 300e9, ("nvidia a100",)),
        Chip("h100", 989.4e12, 80 * 10**9, 3350e9, 450e9, ("nvidia h100",)),
        Chip("h200", 989.4e12, 141 * 10**9, 4800e9, 450e9, ("nvidia h200",)),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind and how they are laid out."""

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
    match = re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+)*)", text.strip().lower())
    if match is None or match[1] not in CHIPS:
        raise UserError(
            f"topology {text!r}: write CHIP:SHAPE, such as v5p:4x4x4 or h100:8; chips: "
            f"{', '.join(CHIPS)}"
        )
    shape = tuple(int(side) for side in match[2].split("x"))
    if not math.prod(shape):
        raise UserError(f"topology {text!r} has no chip")
    return Topology(CHIPS[match[1]], shape)


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip that JAX calls `device_kind`, None for a CPU or one that is not listed."""
    kind, best = device_kind.lower(), ""
    found = None
    for chip in CHIPS.values():
        for prefix in chip.device_kinds:
            if kind.startswith(prefix) and len(prefix) > len(best):
                best, found = prefix, chip
    return found
