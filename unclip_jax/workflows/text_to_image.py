"""Text to image as files: PNGs, a labeled grid, a manifest; bulk runs that resume.

A bulk run fills its folder in parts, on one host or several. Its manifest is written first, marked
as incomplete; running it again makes the images that are missing.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core import distributed, files
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import root_key
from unclip_jax.core.rendering import labeled_grid, slug
from unclip_jax.sampling.encode import caption_context
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.pipeline import Request, generate, requests_for
from unclip_jax.sampling.prompts import (
    FAR,
    far_line,
    quoted,
    read_prompts,
    spell_emoji,
    unknown_words,
)
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve
from unclip_jax.text.tokenizer import clean_text
from unclip_jax.workflows.images import (
    GRID,
    MANIFEST,
    located,
    origin_of,
    rounded,
    save_figure,
    save_image,
    write_json,
)
from unclip_jax.workflows.reporter import Reporter

# Limits of the grid: a bulk run has more prompts than one image can show.
GRID_PROMPTS = 32
GRID_DRAWS = 32
SLUG_SOURCE = 200  # characters of a prompt that its file's name is derived from
CHECKED_PROMPTS = 10_000  # prompts that are checked for unknown words
NAMED_PROMPTS = 5  # prompts that a warning names; more are only counted


@dataclasses.dataclass(frozen=True)
class SampleJob:
    """What to sample and where to write it.

    Attributes:
        model: folder of a bundle, or the name of a shipped one.
        settings: fields of SampleSettings.
        num: images per prompt.
        bulk: whether the folder is filled in parts, and resumed.
    """

    captions: Sequence[str]
    model: str
    out: Path
    settings: Mapping[str, Any]
    num: int
    seed: int
    overwrite: bool
    bulk: bool

    @property
    def requests(self) -> list[Request]:
        """The images of all prompts."""
        return requests_for(self.captions, self.num)


def sample_to_files(job: SampleJob, reporter: Reporter) -> dict[str, Any] | None:
    """Writes what is missing and returns the JSON result.

    On several hosts each samples its share; all but process 0 return None.
    """
    requests = job.requests
    if not job.bulk:
        names = [*(file_name(request) for request in requests), GRID, MANIFEST]
        files.refuse_existing(job.out, names, overwrite=job.overwrite)
    elif job.out.exists() and not job.out.is_dir():
        raise UserError(f"{job.out} is a file; --out must be a folder")
    lock = distributed.locked_by_zero(job.out, "unclip sample --prompts")
    with lock if job.bulk else contextlib.nullcontext():
        with files.scratch_for(job.out, inside=True) as scratch:
            return _sample(job, requests, scratch, reporter)


def _sample(
    job: SampleJob, requests: Sequence[Request], scratch: Path, reporter: Reporter
) -> dict[str, Any] | None:
    model = bundle.load(job.model)
    plan = resolve(model, SampleSettings(**job.settings))
    read = dict(zip(job.captions, read_prompts(model, job.captions), strict=True))
    cut = _warn(job, model, plan, read, reporter) if distributed.is_process_zero() else []
    settings = {"model": job.model, "seed": job.seed, "num": job.num, **plan.to_json()}
    identity = {"settings": settings, "prompts": _digest(job.captions)}
    identity |= {"parameters": model.identity, **origin_of(model)}
    missing = _begin_bulk(job, requests, scratch, identity) if job.bulk else requests
    ready = scratch / "ready"
    monitor = Monitor(reporter.report)
    images = generate(model, missing, root_key(job.seed), plan, monitor)
    reporter.count(0, len(missing), "images")
    reporter.phase("encoding the prompts")
    for done in _save_all(job, images, missing, ready, settings):
        reporter.count(done, len(missing), "images")
    if job.bulk:
        distributed.wait_for_all("sampled")
        if not distributed.is_process_zero():
            return None
        _refuse_gaps(requests, job.out)
    entries = [
        {
            "path": file_name(request),
            "prompt": request.prompt,
            "read_as": clean_text(read[request.prompt]),
            "seed": job.seed,
            "index": request.prompt_index * job.num + request.draw,
        }
        for request in requests
    ]
    result = {
        "images": entries,
        "grid": GRID,
        "settings": settings,
        "seconds": rounded(monitor.seconds),
    }
    result |= {"cut_prompts": cut} if cut else {}
    ready.mkdir(exist_ok=True)
    grid = draw_grid(requests, job.out if job.bulk else ready)
    save_figure(ready / GRID, grid, settings)
    _warn_of_grid(job, reporter)
    write_json(ready / MANIFEST, {**result, **identity, "complete": True})
    files.publish(ready, job.out, overwrite=job.overwrite or job.bulk)
    return located(result, job.out)


def _save_all(
    job: SampleJob,
    batches: Iterator[np.ndarray],
    requests: Sequence[Request],
    ready: Path,
    settings: Mapping[str, Any],
) -> Iterator[int]:
    """Saves batches of images and yields the number done; a bulk run publishes each batch."""
    done = 0
    for images in batches:
        ready.mkdir(exist_ok=True)
        for image, request in zip(images, requests[done:], strict=False):
            entry = {
                "prompt": request.prompt,
                "seed": job.seed,
                "index": request.prompt_index * job.num + request.draw,
                "prompt_index": request.prompt_index,
                "draw": request.draw,
            }
            save_image(ready / file_name(request), image, entry, settings)
        done += len(images)
        if job.bulk:
            files.publish(ready, job.out, overwrite=True)
        yield done


def _warn(
    job: SampleJob, model: Bundle, plan: Plan, read: Mapping[str, str], reporter: Reporter
) -> list[str]:
    """Warns of what may surprise; returns the prompts that are longer than CLIP's context."""
    if not model.cascade and job.settings.get("size") is None:
        reporter.say(f"images have {plan.size} pixels: bundle {model.name!r} has no upsampler")
    context = caption_context(model)
    cut = []
    if model.tokenizer is not None:
        flags = model.tokenizer.encode(list(read.values()), context=context).truncated
        cut = [caption for caption, is_cut in zip(read, flags, strict=True) if is_cut]
    prefix = f"only the first {context - 2} tokens of this prompt are read: "
    lines = [prefix + quoted(caption) for caption in cut[:NAMED_PROMPTS]]
    _say_each(lines, prefix, len(cut), reporter)
    unknown = [(c, unknown_words(model, c)) for c in itertools.islice(read, CHECKED_PROMPTS)]
    far = [(caption, words) for caption, words in unknown if words]
    lines = [far_line(*each) for each in far[:NAMED_PROMPTS]]
    _say_each(lines, f"{FAR}: ", len(far), reporter)
    return cut


def _say_each(lines: Sequence[str], prefix: str, count: int, reporter: Reporter) -> None:
    """Says the lines of the first prompts, and how many more prompts they apply to."""
    for line in lines:
        reporter.say(line)
    if count > len(lines):
        reporter.say(f"{prefix}{count - len(lines):,} more prompts")


def _warn_of_grid(job: SampleJob, reporter: Reporter) -> None:
    if len(job.captions) > GRID_PROMPTS:
        reporter.say(f"{GRID} shows the first {GRID_PROMPTS} of {len(job.captions)} prompts")
    elif job.num > GRID_DRAWS:
        reporter.say(f"{GRID} shows the first {GRID_DRAWS} of {job.num} images per prompt")


def draw_grid(requests: Sequence[Request], folder: Path) -> Image.Image:
    """Draws the images of the first prompts from their files."""
    rows: dict[int, list[np.ndarray]] = {}
    labels: dict[int, str] = {}
    for request in requests:
        index = request.prompt_index
        if index not in rows and len(rows) == GRID_PROMPTS:
            break
        if len(rows.get(index, ())) == GRID_DRAWS:
            continue
        with Image.open(folder / file_name(request)) as image:
            rows.setdefault(index, []).append(np.asarray(image))
        labels[index] = spell_emoji(request.prompt)  # the font has no emoji
    return labeled_grid(list(rows.values()), list(labels.values()))


def _begin_bulk(
    job: SampleJob, requests: Sequence[Request], scratch: Path, identity: Mapping[str, Any]
) -> list[Request]:
    """Returns the requests that this host has to make; a folder of another run is refused."""
    resumes = False

    def begin() -> None:
        nonlocal resumes
        resumes = can_resume(job, requests, scratch, identity)

    distributed.run_on_process_zero(begin)
    mine = distributed.local_shard(requests, lambda request: request.prompt_index)
    if distributed.broadcast_from_zero(resumes):
        return [request for request in mine if not is_whole_png(job.out / file_name(request))]
    return mine


def can_resume(
    job: SampleJob, requests: Sequence[Request], scratch: Path, identity: Mapping[str, Any]
) -> bool:
    """Whether the folder holds a part of this very run; if not, it is started there."""
    manifest = job.out / MANIFEST
    if manifest.exists() and not job.overwrite:
        recorded = files.read_mapping(manifest, remedy="delete it or pass --overwrite")
        if "parameters" not in recorded:
            raise UserError(
                f"{job.out} does not record which parameters made its images and cannot be "
                "resumed; choose another --out or pass --overwrite"
            )
        differing = [key for key in identity if recorded.get(key) != identity[key]]
        if differing:
            raise UserError(
                f"{job.out} holds a run with other {' and '.join(differing)}; "
                "choose another --out or pass --overwrite"
            )
        return True
    names = [file_name(request) for request in requests]
    files.refuse_existing(job.out, [GRID, *names], overwrite=job.overwrite)
    begun = scratch / "begun"
    begun.mkdir()
    write_json(begun / MANIFEST, {"images": [], **identity, "complete": False})
    files.publish(begun, job.out, overwrite=job.overwrite)
    return False


def _refuse_gaps(requests: Sequence[Request], out: Path) -> None:
    """Fails if an image is missing after all hosts have written theirs."""
    missing = [request for request in requests if not is_whole_png(out / file_name(request))]
    if missing:
        raise UserError(
            f"{len(missing)} images of other hosts are not in {out}, such as "
            f"{file_name(missing[0])}; --out must be a folder that all hosts share"
        )


def is_whole_png(path: Path) -> bool:
    """Whether a file is a complete PNG; a full disk or a lost machine may leave part of one."""
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, struct.error):
        return False
    return True


def file_name(request: Request) -> str:
    """Returns the name of an image's file: number of the prompt, prompt, draw."""
    return f"{request.prompt_index:03d}-{prompt_slug(request.prompt)}-{request.draw:02d}.png"


def prompt_slug(prompt: str) -> str:
    """Returns a prompt as a part of a file name."""
    return slug(spell_emoji(prompt[:SLUG_SOURCE]))


def _digest(captions: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(captions).encode("utf-8", "surrogatepass")).hexdigest()[:16]
