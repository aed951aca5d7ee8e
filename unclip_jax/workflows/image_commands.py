"""Runs a command that takes images and writes images: inputs, checks, files, result."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Key, UInt8

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core import files
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import slug
from unclip_jax.sampling.latents import image_fit, squares
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.prompts import check_prompts, far_line, spell_emoji, unknown_words
from unclip_jax.sampling.unlike import is_unlike_training
from unclip_jax.workflows.images import (
    GRID,
    MANIFEST,
    ImageOutputs,
    fresh_folder,
    located,
    origin_of,
    read_image,
    write_outputs,
)
from unclip_jax.workflows.reporter import Reporter

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Session:
    """A bundle, the root key, and the monitor of progress and wall times."""

    model: Bundle
    key: Key[Array, ""]
    monitor: Monitor

    def square(self, image: Pixels, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """Returns an image as the square that the bundle sees."""
        return squares([image], size, image_fit(self.model))[0]


@runtime_checkable
class ImageCommand(Protocol):
    """What distinguishes one command from another."""

    name: ClassVar[str]

    @property
    def stem(self) -> str:
        """Base of the name of the default output folder."""

    @property
    def paths(self) -> Sequence[Path]:
        """The input images."""

    @property
    def texts(self) -> Sequence[str]:
        """Captions, which may have words that the training captions lack."""

    @property
    def files(self) -> Sequence[str]:
        """Names of the files it will write, in addition to grid and manifest."""

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Computes the outputs of the input images."""


def run_command(
    command: ImageCommand,
    *,
    model: str,
    out: Path | None,
    seed: int,
    overwrite: bool,
    reporter: Reporter,
) -> dict[str, Any]:
    """Writes the outputs of a command, all of them or none, and returns its JSON result.

    Args:
        model: folder of a bundle, or the name of a shipped one.
        out: folder to write; None for a new one in ./samples.
    """
    images = {path: read_image(path) for path in command.paths}
    check_prompts(command.texts)
    name = slug(spell_emoji(f"{command.name} {command.stem}"))
    out = out or fresh_folder(Path("samples"), name)
    names = [*command.files, GRID, MANIFEST]
    files.refuse_existing(out, names, overwrite=overwrite)
    with files.scratch_for(out, inside=True) as scratch:
        reporter.phase(f"loading {model}")
        loaded = bundle.load(model)
        far = warn_of_unlike(loaded, images, reporter)
        warn_of_words(loaded, command.texts, reporter)
        session = Session(loaded, root_key(seed), Monitor(reporter.report))
        outputs = command.run(session, [images[path] for path in command.paths])
        ready = scratch / "ready"
        ready.mkdir()
        settings = {"command": command.name, "model": model, "seed": seed, **outputs.settings}
        origin = origin_of(loaded) | far
        result = write_outputs(ready, outputs, settings, session.monitor.seconds, origin)
        files.publish(ready, out, overwrite=overwrite)
    for note in outputs.notes:
        reporter.say(note)
    return located(result | far, out)


def warn_of_unlike(
    model: Bundle, images: Mapping[Path, Pixels], reporter: Reporter
) -> dict[str, list[str]]:
    """Warns of images unlike the training set; returns {"far_from_training": their paths}."""
    far = [str(path) for path, image in images.items() if is_unlike_training(model, image)]
    for path in far:
        reporter.say(
            f"{path} is far from what this model was trained on, drawings on a white background: "
            "do not rely on the result"
        )
    return {"far_from_training": far}


def warn_of_words(model: Bundle, texts: Sequence[str], reporter: Reporter) -> None:
    """Warns of words that the training captions lack."""
    for text in texts:
        if unknown := unknown_words(model, text):
            reporter.say(far_line(text, unknown))
