"""Runs the page's requests: one at a time, in a thread of its own, reporting while it works.

A request gets a new folder of its own, with files like those of the commands and a ZIP of them.
Folders are removed after an hour.
"""

import dataclasses
import io
import queue
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.compiling import Compiles
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import slug
from unclip_jax.demo.choices import Choices
from unclip_jax.demo.inputs import RESULTS
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.prompts import check_prompts, far_line, spell_emoji, unknown_words
from unclip_jax.sampling.unlike import is_unlike_training
from unclip_jax.workflows.image_commands import ImageCommand, Pixels, Session
from unclip_jax.workflows.images import GIF, GRID, origin_of, write_outputs

TICK = 0.5  # seconds
KEPT = 3600.0  # seconds that results can be downloaded
PROGRAM_LIMIT = 300  # compiled programs that are kept; a request needs about eight
COMPILED = "/jax/core/compile/backend_compile_duration"


class Stopped(Exception):
    """Nobody waits for the request any longer."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A request whose values have been checked."""

    command: ImageCommand
    seed: int
    images: Sequence[Pixels] = ()


@dataclasses.dataclass(frozen=True)
class Step:
    """What is seen of a request while it is worked on.

    Attributes:
        text: says what is done; "" if nothing has changed.
        compiling: seconds that a program has been compiled for; 0 if none is.
        preview: the images as they are expected to become; None where there are none yet.
    """

    text: str
    preview: UInt8[np.ndarray, "n h w 3"] | None = None
    compiling: float = 0.0


@dataclasses.dataclass(frozen=True)
class Result:
    """What a request has made.

    Attributes:
        images: files in order, each with its caption.
        archive: a ZIP of all files: images, grid, GIF, inputs and manifest.
        notes: lines for the visitor.
    """

    images: list[tuple[Path, str]]
    grid: Path
    archive: Path
    gif: Path | None
    seed: int
    notes: list[str]
    seconds: float


class Studio:
    """A bundle and the one thread that samples from it."""

    def __init__(self, model: Bundle, name: str, folder: Path):
        """Nothing is compiled yet.

        Args:
            name: of the bundle as it was asked for.
            folder: of all results.
        """
        self.model, self.name, self.folder = model, name, folder
        self.choices = Choices.of(model)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studio")
        self._compiled, self._compiles = 0, Compiles(time.monotonic)
        self._compiles.listen()
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def run(self, job: Job) -> Iterator[Step | Result]:
        """Yields the steps of a job and its result; a closed iterator stops the work.

        Steps come at least every TICK seconds, so that whoever reads them can close it soon.

        Raises:
            UserError: a text is too long, or a setting is out of range.
        """
        steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        stopped = threading.Event()
        future = self._worker.submit(self._make, job, steps.put, stopped.is_set)
        future.add_done_callback(lambda _: steps.put(None))
        step: Step | None = Step("waiting for the request before to stop")
        try:
            while step is not None:
                yield step
                try:
                    step = steps.get(timeout=TICK)
                except queue.Empty:
                    step = Step("", compiling=self._compiles.seconds())
            yield future.result()
        finally:
            stopped.set()

    def _make(
        self, job: Job, tell: Callable[[Step], None], is_stopped: Callable[[], bool]
    ) -> Result:
        """Makes the images of a job and writes them; the same thread does all."""
        start, command = time.perf_counter(), job.command
        monitor = watching(tell, is_stopped)
        check_prompts(command.texts)
        session = Session(self.model, root_key(job.seed), monitor)
        tell(Step("encoding"))
        outputs = command.run(session, job.images)
        folder = self._new_folder()
        named = {"command": command.name, "model": self.name, "seed": job.seed}
        settings = {**named, **outputs.settings}
        origin = origin_of(self.model)
        write_outputs(folder, outputs, settings, monitor.seconds, origin)
        archive = folder / f"{slug(spell_emoji(f'{command.name} {command.stem}'))}.zip"
        archive.write_bytes(zipped(sorted(folder.iterdir())))
        self._forget_programs()
        return Result(
            images=[(folder / i.name, caption_of(i.facts)) for i in outputs.images],
            grid=folder / GRID,
            archive=archive,
            gif=None if outputs.frames is None else folder / GIF,
            seed=job.seed,
            notes=[*outputs.notes, *self._warnings(job)],
            seconds=time.perf_counter() - start,
        )

    def _warnings(self, job: Job) -> list[str]:
        """Says which inputs are unlike what the bundle was trained on."""
        unknown = [(text, unknown_words(self.model, text)) for text in job.command.texts]
        lines = [far_line(text, words) for text, words in unknown if words]
        if any(is_unlike_training(self.model, image) for image in job.images):
            lines.append(
                "the image is far from what this model was trained on, drawings on a white "
                "background: do not rely on the result"
            )
        return lines

    def _new_folder(self) -> Path:
        """Creates a folder whose name cannot be guessed, and removes those that are old."""
        oldest = time.time() - KEPT
        for old in self.folder.glob(f"{RESULTS}*"):
            if old.stat().st_mtime < oldest:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=RESULTS, dir=self.folder))

    def _count(self, event: str, duration: float, **_: object) -> None:
        self._compiled += event == COMPILED

    def _forget_programs(self) -> None:
        """Drops all compiled programs once there are many; they are compiled again when needed."""
        if self._compiled > PROGRAM_LIMIT:
            jax.clear_caches()
            self._compiled = 0


def watching(tell: Callable[[Step], None], is_stopped: Callable[[], bool]) -> Monitor:
    """Returns a monitor that turns progress into steps, and ends the work if nobody waits."""

    def progress(stage: str, done: int, total: int) -> None:
        if is_stopped():
            raise Stopped
        tell(Step(f"{stage}: {done} of {total} steps" if done else f"{stage}: starting"))

    def preview(stage: str, images: UInt8[np.ndarray, "n h w 3"]) -> None:
        tell(Step("", images))

    return Monitor(progress, preview)


def caption_of(facts: object) -> str:
    """Returns the caption of an image: what sets it apart from the others."""
    names = {"theta": "θ", "dims": "components", "prior": "prior"}
    shown = [
        f"{names[k]} {v:.2f}" if isinstance(v, float) else f"{names[k]} {v}"
        for k, v in dict(facts).items()
        if k in names
    ]
    return ", ".join(shown)


def zipped(paths: Sequence[Path]) -> bytes:
    """Returns a ZIP of files; PNGs are compressed already."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    return buffer.getvalue()
