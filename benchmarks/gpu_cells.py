"""What `gpu.py` measures: cells of several sides that do the same work, the most telling first."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from gpu_sides import attention, sample_emoji, torch_attention, train_config, train_karlo
from karlo_sides import Setup, our_step, their_step
from torch_training import (
    train_dalle2_decoder,
    train_dalle2_prior,
    train_diffusers,
    train_open_clip,
)
from turns import Maker

OURS, CUDNN = "unclip_jax", "unclip_jax, cuDNN attention"
EAGER, COMPILED = "diffusers", "diffusers, torch.compile"
HALF = "bfloat16"
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Of our processes that are on the card together with others."""

ALONE = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93"}
STAGES = {"prior": "prior", "decoder": "decoder", "super_res_first": "super-resolution"}


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a cell should reach.

    Attributes:
        speed: over that of `against`.
        mfu: of each of our sides.
        error: relative, of each of our sides.
    """

    speed: float | None = None
    against: str = COMPILED
    mfu: float | None = None
    error: float | None = None


@dataclasses.dataclass(frozen=True)
class Ways:
    """Batches and rematerializations of our sides, the largest first.

    Attributes:
        cudnn: with cuDNN's attention, which keeps no weights; none where there is no attention.
    """

    own: tuple[tuple[int, str], ...]
    cudnn: tuple[tuple[int, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Cell:
    """One comparison.

    Attributes:
        name: key in the file of results.
        what: for the table.
        sides: ways to make each side's step: with the largest batch first; the first that fits into
            memory counts.
        alone: whether a side has the card to itself; otherwise they are loaded together and take
            turns.
        minutes: that all sides take on an H100, roughly; with less left it is not begun, where
            sides are alone with less than a side's share.
    """

    name: str
    what: str
    dtype: str
    sides: Mapping[str, tuple[Maker, ...]]
    alone: bool
    minutes: float
    goal: Goal = Goal()

    @property
    def trains(self) -> bool:
        """Whether a call is a training step."""
        return self.name.startswith("train")


def dtype_of(tiny: bool) -> str:
    """Returns the dtype of all sides: half precision, but not on a CPU."""
    return "float32" if tiny else HALF


def with_environment(changes: Mapping[str, str], make: Callable[..., Any], *arguments: Any) -> Any:
    """Makes a step in a process with other environment variables, set before jax is imported."""
    os.environ.update(changes)
    return make(*arguments)


def ours(make: Callable[..., Any], *arguments: Any, cudnn: bool, alone: bool) -> Maker:
    """Returns the maker of one of our sides."""
    changes = (ALONE if alone else SHARED) | {"UNCLIP_ATTENTION": "cudnn" if cudnn else "own"}
    return with_environment, (changes, make, *arguments)


def attention_cell(tiny: bool, minutes: float) -> Cell:
    """The decoder's attention alone, forward and backward: is cuDNN's right, and how fast?"""
    sides: dict[str, tuple[Maker, ...]] = {
        name: (ours(attention, tiny, cudnn=name == CUDNN, alone=False),) for name in (CUDNN, OURS)
    }
    sides["torch"] = ((torch_attention, (tiny,)),)
    what = "attention of 1024 pixels and 81 context vectors, forward and backward"
    return Cell("attention", what, HALF, sides, False, minutes, Goal(error=0.02))


def sampling_cell(stage: str, images: int, tiny: bool, minutes: float) -> Cell:
    """All steps of one of Karlo's stages, against diffusers."""
    setup = Setup(stage, tiny, images, dtype_of(tiny), os.cpu_count() or 1, whole=True)
    sides: dict[str, tuple[Maker, ...]] = {
        OURS: (ours(our_step, setup, cudnn=False, alone=False),),
        CUDNN: (ours(our_step, setup, cudnn=True, alone=False),),
        COMPILED: ((their_step, (setup, True)),),
        EAGER: ((their_step, (setup, False)),),
    }
    if stage != "decoder":
        del sides[CUDNN]  # no attention, or that of the prior's last positions, which are too few
    what = f"sampling, Karlo's {STAGES[stage]}, {setup.steps} steps of {images}"
    return Cell(f"sample {stage} {images}", what, setup.dtype, sides, False, minutes, Goal(1.3))


def training_cell(stage: str, ways: Ways, tiny: bool, minutes: float, goal: Goal) -> Cell:
    """A training step in Karlo's sizes, against all who have it; they take the same batches."""
    ways = Ways(((4, "none"),)) if tiny else ways

    def setup_of(rows: int) -> Setup:
        return Setup(stage, tiny, rows, dtype_of(tiny), os.cpu_count() or 1)

    def peers(make: Callable[..., Any], *arguments: Any) -> tuple[Maker, ...]:
        batches = sorted({rows for rows, _ in (*ways.own, *ways.cudnn)}, reverse=True)
        return tuple((make, (setup_of(rows), *arguments)) for rows in batches)

    sides = our_sides(ways, lambda rows, remat: (train_karlo, setup_of(rows), remat))
    if stage == "clip":
        sides["open_clip, torch.compile"] = peers(train_open_clip, True)
        sides["open_clip"] = peers(train_open_clip, False)
    else:
        sides[COMPILED], sides[EAGER] = peers(train_diffusers, True), peers(train_diffusers, False)
    if stage == "prior":
        sides["dalle2-pytorch"] = peers(train_dalle2_prior)
    if stage == "decoder":
        sides["dalle2-pytorch"] = peers(train_dalle2_decoder)
    what = "CLIP ViT-L/14" if stage == "clip" else f"Karlo's {STAGES[stage]}"
    return Cell(f"train {stage}", f"training, {what}", dtype_of(tiny), sides, True, minutes, goal)


def our_sides(
    ways: Ways, maker: Callable[[int, str], tuple[Any, ...]]
) -> dict[str, tuple[Maker, ...]]:
    """Returns our sides at their batches and rematerializations."""
    both = {OURS: (ways.own, False), CUDNN: (ways.cudnn, True)}
    return {
        name: tuple(ours(*maker(*way), cudnn=cudnn, alone=True) for way in known)
        for name, (known, cudnn) in both.items()
        if known
    }


def paper_cell(stage: str, ways: Ways, tiny: bool, goal: Goal = Goal()) -> Cell:
    """Our training step of a stage at the paper's size."""
    ways = Ways(((4, "none"),)) if tiny else ways
    path = f"configs/paper/{stage}.py{':smoke' if tiny else ''}"
    dtype, name = dtype_of(tiny), path.partition(":")[0]
    sides = our_sides(ways, lambda rows, remat: (train_config, path, rows, remat, dtype))
    return Cell(f"train paper {stage}", f"training, {name}", dtype, sides, True, 2.0, goal)


def emoji_cell(images: int, tiny: bool, minutes: float) -> Cell:
    """The shipped bundle's whole cascade."""
    dtype = dtype_of(tiny)
    sides = {
        name: (ours(sample_emoji, images, dtype, cudnn=name == CUDNN, alone=False),)
        for name in (OURS, CUDNN)
    }
    what = f"sampling, emoji bundle, {images} images of 256 pixels"
    return Cell("sample emoji", what, dtype, sides, False, minutes)


def all_cells(tiny: bool = False) -> tuple[Cell, ...]:
    """Returns the cells, the most telling first; `tiny` ones show on a CPU that all of it runs.

    Batches are the largest that fit into an H100's 80 GB by the estimates of `unclip plan`, where
    it makes them; a batch that does not fit is followed by the next.
    """
    images = 1 if tiny else 8
    prior, decoder = Goal(mfu=0.55), Goal(mfu=0.50)
    known = {
        "prior": Ways(((256, "none"), (128, "none")), ((384, "none"), (256, "none"))),
        "decoder": Ways(((32, "none"), (16, "none")), ((64, "none"), (32, "none"))),
        "super_res_first": Ways(((128, "none"), (64, "none"))),
        "clip": Ways(((128, "none"), (64, "none")), ((256, "none"), (128, "none"))),
    }

    def training(stage: str, minutes: float, goal: Goal = Goal()) -> Cell:
        return training_cell(stage, known[stage], tiny, minutes, goal)

    def paper(stage: str, ways: Ways, goal: Goal = Goal()) -> Cell:
        return paper_cell(stage, ways, tiny, goal)

    small = Ways(((32, "block"), (8, "block")), ((32, "block"), (8, "block")))
    return (
        attention_cell(tiny, 1.0),
        sampling_cell("decoder", images, tiny, 2.5),
        sampling_cell("prior", images, tiny, 1.5),
        training("prior", 3.0, prior),
        sampling_cell("super_res_first", images, tiny, 2.5),
        training("decoder", 4.0, decoder),
        emoji_cell(images if tiny else 64, tiny, 1.5),
        training("super_res_first", 3.0),
        training("clip", 3.0),
        paper("prior_diffusion", Ways(((64, "dots"),), ((64, "none"), (64, "dots"))), prior),
        paper("decoder", small, decoder),
        paper("upsampler_256", Ways(((128, "none"), (64, "none")))),
        paper("clip", Ways(((64, "dots"),), ((128, "dots"), (64, "dots")))),
        paper("prior_ar", Ways(((32, "dots"), (16, "dots")), ((32, "dots"), (16, "dots"))), prior),
        paper("upsampler_1024", Ways(((64, "none"), (32, "none"), (16, "none")))),
        *(
            sampling_cell(stage, 1, tiny, 2.5)
            for stage in ("decoder", "prior", "super_res_first")
            if not tiny
        ),
    )
