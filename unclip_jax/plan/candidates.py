"""Ways to run one training step on the same chips, and what each is estimated to take.

Candidates differ in what a block keeps for its backward pass, in micro-batches, and in the mesh;
the batch, and with it what is learned, stays as it is. A candidate's step is estimated as its
arithmetic (sizes filled up to the matrix unit's) and what the chip cannot hide behind it of memory
traffic and collectives, each at the chip's peak rate.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from unclip_jax.core.chips import Topology
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key, stage_key, step_key
from unclip_jax.models.stages import make_module
from unclip_jax.nn.remat import POLICIES
from unclip_jax.plan.estimate import Plan, sharded_bytes
from unclip_jax.plan.footprint import ROWS, Footprint, footprint
from unclip_jax.train.program import Program
from unclip_jax.train.sharding import AXES, mesh_sizes
from unclip_jax.train.step import accumulate, batch_keys
from unclip_jax.train.tasks import make_task
from unclip_jax.train.throughput import with_remat

MICRO_BATCHES = (1, 2, 4, 8)

TENSOR = (1, 2, 4, 8)
"""Sizes of the tensor axis that are tried: whole layers fit long before more is needed."""

PASSES = 3
"""How often fully sharded parameters cross a chip's links: gathered forward and backward, and their
gradients summed."""

WIRE = 2.0
"""How often an array crosses the links of a chip: libtpu writes gathers as all-reduces."""

TENSOR_SHARE = 0.25
"""Share of the products' results that are summed over a tensor axis (2 of 9 widths a block)."""

EXPOSED = 0.6
"""Share of the traffic's and the collectives' time that arithmetic does not hide: 0.58 to 0.62 in
the compiled rows of docs/plans.md."""

HOST_RATE = 16e9
"""Bytes per second between a chip and its host, for offloading: an assumption, PCIe 4 with 8 lanes
a chip."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to run the step.

    Attributes:
        mesh: (data, fsdp, tensor).
    """

    remat: str
    accumulation: int
    mesh: tuple[int, int, int]

    def changes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values that make a config this candidate, by "SECTION.KEY"."""
        remat = dict.fromkeys(remat_keys(config["model"], "model"), self.remat)
        mesh = zip(AXES, self.mesh, strict=True)
        sizes = {f"train.mesh.{axis}": size for axis, size in mesh}
        return {**remat, "train.accumulation": self.accumulation, **sizes}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a candidate takes, on a chip and in a step.

    Attributes:
        memory_bytes: state, gradients, gathered parameters and activations.
        arithmetic_seconds: of all FLOPs, those computed again included, without padding.
        padding_seconds: of what fills up the matrix unit.
        traffic_seconds: of memory, to and from the host where products wait there.
        collective_seconds: at the full link rate.
    """

    memory_bytes: int
    arithmetic_seconds: float
    padding_seconds: float
    traffic_seconds: float
    collective_seconds: float

    @property
    def seconds(self) -> float:
        """Time of a step."""
        work = self.arithmetic_seconds + self.padding_seconds
        return work + EXPOSED * (self.traffic_seconds + self.collective_seconds)


def remat_keys(section: Mapping[str, Any], path: str) -> list[str]:
    """Lists the keys of a section, and of those in it, that choose a rematerialization."""
    found = [f"{path}.remat"] if "remat" in section else []
    for name, value in section.items():
        if isinstance(value, Mapping):
            found += remat_keys(value, f"{path}.{name}")
    return found


def candidates(program: Program, chips: int) -> Iterator[Candidate]:
    """Yields all candidates: micro-batches and meshes that divide the batches."""
    settings, spec = program.settings, program.spec
    train, cfg = settings.train, settings.eval
    remat = POLICIES if with_remat(spec, "none") != with_remat(spec, "block") else ("none",)
    parts = sorted({*MICRO_BATCHES, train.accumulation})
    if train.sam_rho or program.task.accumulate is not None:  # groups, or a forward pass more
        parts = [train.accumulation]
    for tensor in TENSOR:
        for fsdp in range(1, chips // tensor + 1):
            if chips % (fsdp * tensor):
                continue
            mesh = (chips // (fsdp * tensor), fsdp, tensor)
            shards = mesh[0] * fsdp
            if cfg.batches and cfg.batch_size % shards:
                continue
            fitting = [n for n in parts if train.batch_size % (shards * n) == 0]
            for policy, part in itertools.product(remat, fitting):
                yield Candidate(policy, part, mesh)


def current_candidate(
    config: Mapping[str, Any], program: Program, topology: Topology
) -> Candidate | None:
    """Returns a config as a candidate; None if its parts have several rematerializations.

    None also if its mesh is of another number of chips.
    """
    train, values = program.settings.train, set()
    for path in remat_keys(config["model"], "model"):
        section: Any = config
        for key in path.split("."):
            section = section[key]
        values.add(section)
    if len(values) > 1:
        return None
    try:
        mesh = mesh_sizes(train.mesh, topology.chips)
    except UserError:
        return None
    return Candidate(values.pop() if values else "none", train.accumulation, mesh)


class Estimator:
    """Estimates candidates of one program; each rematerialization is traced once."""

    def __init__(self, program: Program, plan: Plan, topology: Topology):
        """Prepares estimates.

        Args:
            plan: of the program: parameters and FLOPs.
        """
        self.program, self.plan, self.topology = program, plan, topology

    @functools.cache  # noqa: B019 - a process searches once
    def footprint(self, remat: str) -> Footprint:
        """Returns the footprint of the gradient at a rematerialization."""
        return footprint(traced_gradient(self.program, remat), self.topology.chip.lanes)

    @functools.cache  # noqa: B019
    def state_bytes(self, mesh: tuple[int, int, int]) -> int:
        """Returns a chip's share of state and constants."""
        program, devices = self.program, AbstractMesh(mesh, AXES)
        state = sharded_bytes(program.state, program.state_shardings(devices))
        return state + sharded_bytes(program.constants, program.constant_shardings(devices))

    def cost(self, candidate: Candidate) -> Cost:
        """Returns what a candidate is estimated to take."""
        plan, chip, chips = self.plan, self.topology.chip, self.topology.chips
        kept = "dots" if candidate.remat == "offload" else candidate.remat
        print_, plain = self.footprint(kept), self.footprint("none")
        data, fsdp, tensor = candidate.mesh
        rows, all_rows, runs = self._rows(candidate)
        flops = plan.flops_per_step * print_.flops / plain.flops
        arithmetic = flops / chips / chip.flops
        state = self.state_bytes(candidate.mesh)
        gradients = 4 * plan.params / (fsdp * tensor)
        split = (1 + 1 / tensor) / 2  # inside a block; what runs through the blocks stays whole
        moved = runs * print_.moved_bytes(rows, all_rows) * split + 2 * state + 2 * gradients
        products = runs * rows * print_.products[1]
        host = runs * self._host_bytes(candidate, rows, all_rows)
        return Cost(
            memory_bytes=int(state + self._temporaries(candidate, rows, all_rows, gradients)),
            arithmetic_seconds=arithmetic,
            padding_seconds=arithmetic * (print_.padded_flops / print_.flops - 1),
            traffic_seconds=moved / chip.hbm_rate + host / HOST_RATE,
            collective_seconds=self._sent(candidate, runs, products) / chip.link_rate,
        )

    def _host_bytes(self, candidate: Candidate, rows: float, all_rows: float) -> float:
        """Returns what a run sends to the host and takes back: what "dots" keeps beside "block"."""
        if candidate.remat != "offload":
            return 0.0
        dots, block = (
            self.footprint(kept).activation_bytes(rows, all_rows) for kept in ("dots", "block")
        )
        return 2 * max(0.0, dots - block)  # of a tiny network the rounded counts may cross

    def _rows(self, candidate: Candidate) -> tuple[float, float, float]:
        """Returns a chip's rows of one run of the gradient, those of all chips, and the runs."""
        train = self.program.settings.train
        all_rows = train.sam_group if train.sam_rho else train.batch_size / candidate.accumulation
        shards = candidate.mesh[0] * candidate.mesh[1]
        return max(1.0, all_rows / shards), float(all_rows), train.batch_size / all_rows

    def _temporaries(
        self, candidate: Candidate, rows: float, all_rows: float, gradients: float
    ) -> float:
        # Offloaded products leave what "block" keeps.
        kept = "block" if candidate.remat == "offload" else candidate.remat
        held = self.footprint(kept).activation_bytes(rows, all_rows)
        _, fsdp, tensor = candidate.mesh
        gathered = gathered_bytes(self.program) / tensor if fsdp > 1 else 0
        return held + gathered + (1 if candidate.accumulation == 1 else 2) * gradients

    def _sent(self, candidate: Candidate, runs: float, products: float) -> float:
        """Returns the bytes over a chip's links."""
        plan, (data, fsdp, tensor) = self.plan, candidate.mesh
        size = jnp.dtype(self.program.settings.train.dtype).itemsize
        sent = 0.0
        if fsdp > 1:
            sent += PASSES * runs * plan.params * size / tensor
        if data > 1:
            sent += 4 * plan.params / (fsdp * tensor)
        if tensor > 1:
            sent += TENSOR_SHARE * products
        return WIRE * sent


def gathered_bytes(program: Program) -> float:
    """Returns the bytes of the sharded parameters that are gathered at a time.

    Compilers keep them from the forward to the backward pass, but for scanned blocks, of which one
    is gathered after the other.
    """
    boxes = jax.tree.leaves(program.boxed, is_leaf=lambda leaf: hasattr(leaf, "names"))
    size, total = jnp.dtype(program.settings.train.dtype).itemsize, 0.0
    for box in boxes:
        shape = box.value.shape
        blocks = shape[box.names.index("layers")] if "layers" in box.names else 1
        total += size * math.prod(shape) / blocks
    return total


def traced_gradient(program: Program, remat: str) -> Any:
    """Returns the jaxpr of the gradient of ROWS examples at a rematerialization."""
    settings, spec = program.settings, with_remat(program.spec, remat)
    train = dataclasses.replace(settings.train, batch_size=ROWS, sam_group=ROWS, accumulation=1)
    module = make_module(spec, jnp.dtype(train.dtype))
    task = make_task(spec, module, train, program.clip)

    def gradient(params: Any, constants: Any, batch: Any, step: Any) -> Any:
        key = step_key(stage_key(root_key(settings.seed), task.key_id), step)
        keys = batch_keys(key, ROWS)._replace(step=step)
        return accumulate(task, params, constants, batch, keys, 1)[0]

    step = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (program.state.params, program.constants, program.batch(ROWS), step)
    return jax.make_jaxpr(gradient)(*arguments).jaxpr
