"""`unclip sample`: captions in, PNG files, a labelled grid and a manifest out."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress, say
from unclip_jax.core import files
from unclip_jax.core.errors import UserError
from unclip_jax.diffusion.config import SAMPLER_NAMES

# What grid.png shows at most: a bulk run has more prompts than a picture can hold.
GRID_PROMPTS = 32
GRID_DRAWS = 32
SLUG_SOURCE = 200  # characters of a prompt that its file's name is made of

MANIFEST = "manifest.json"
FILE_LIMIT = 256 << 20  # bytes of a file of prompts
FAR_LIMIT = 10_000  # prompts that are looked through for words never seen
SAID = 5  # prompts that get a line of their own on stderr


@click.command(short_help="Text to image.")
@click.argument("prompts", nargs=-1, metavar="PROMPT...")
@click.option("--prompts", "prompt_file", metavar="FILE", help="A prompt a line; resumable.")
@common.model_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder; default: a fresh one.")
@click.option("--num", default=4, show_default=True, type=click.IntRange(1), help="Per prompt.")
@common.seed_option
@click.option("--size", type=click.IntRange(1), help="Pixels: one of the bundle's sizes.")
@click.option("--guidance", type=float, help="Guidance scale of the decoder; 1 is off.")
@click.option("--prior-guidance", type=float, help="Guidance scale of the prior.")
@click.option("--steps", type=click.IntRange(1), help="Steps of the decoder.")
@click.option("--prior-steps", type=click.IntRange(1), help="Steps of the prior.")
@click.option("--prior-temperature", type=float, help="Of the ar prior; 0 takes the likeliest.")
@click.option("--prior-top-p", type=float, help="Of the ar prior: probability that is drawn from.")
@click.option("--sampler", type=click.Choice(SAMPLER_NAMES), help="Of the decoder.")
@click.option("--negative", default="", help="Replaces the empty caption in guidance.")
@click.option(
    "--prior",
    type=click.Choice([*common.PRIORS, "text", "none"]),
    help="Source of the image embedding; text and none are the paper's baselines.",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@common.hosts_options
@common.json_option
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def sample(
    prompts: tuple[str, ...],
    prompt_file: str | None,
    model: str,
    out: Path | None,
    num: int,
    seed: int,
    as_json: bool,
    overwrite: bool,
    **choices: Any,
) -> None:
    """Makes images from captions. None of the settings given means the bundle's own.

    With --prompts the same command may run on several hosts, with an --out that all of them see.

    Example: unclip sample "a red heart" "a green apple" --num 2 --out hearts
    """
    captions = list(prompts) + (read_prompt_file(prompt_file) if prompt_file else [])
    if not captions:
        raise UserError("no prompt given: pass one or --prompts FILE")
    if not all(caption.strip() for caption in captions):
        raise UserError("a prompt is empty; say what to draw")
    bulk = prompt_file is not None
    if bulk and out is None:
        raise UserError("--prompts needs --out, the folder to fill and to resume in")
    hosts = {name: choices.pop(name) for name in ("coordinator", "num_processes", "process_id")}
    if not bulk and any(value is not None for value in hosts.values()):
        raise UserError("--coordinator is for --prompts FILE, which several hosts share among them")
    job = Job(captions, model, seed, num, overwrite, bulk)
    if out is None:
        out = common.fresh_folder(Path("samples"), _slug(captions[0]))
    with Progress() as progress:
        progress.phase(f"loading {model}")
        common.use_compile_cache()
        from unclip_jax.core import distributed

        with distributed.joined(**hosts) if bulk else contextlib.nullcontext():
            result = job.run(out, choices, progress)
    if result is None:
        return
    if as_json:
        common.echo_json(result)
    else:
        for image in result["images"]:
            click.echo(image["path"])
        click.echo(result["grid"])


def _slug(text: str) -> str:
    from unclip_jax.core.rendering import slug
    from unclip_jax.sampling.prompts import spell_emoji

    return slug(spell_emoji(text[:SLUG_SOURCE]))


def read_prompt_file(path: str) -> list[str]:
    """Reads a file of prompts, one a line; empty lines are left out."""
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_LIMIT + 1)
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
        raise UserError(f"cannot read --prompts {path}: {error}") from error
    if len(data) > FILE_LIMIT:
        raise UserError(f"--prompts {path} is larger than {FILE_LIMIT >> 20} MiB; split it")
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise UserError(f"--prompts {path} holds no prompt")
    return found


@dataclasses.dataclass(frozen=True)
class Job:
    """One call of the command: what to make, and how it is written."""

    captions: list[str]
    model: str
    seed: int
    num: int
    overwrite: bool
    bulk: bool

    def run(self, out: Path, choices: dict[str, Any], progress: Progress) -> dict[str, Any] | None:
        """Makes what is missing and returns the result that `--json` prints.

        On several hosts each makes its own share, and the first one alone returns something.
        """
        from unclip_jax.core import distributed
        from unclip_jax.sampling.pipeline import requests_for

        requests = requests_for(self.captions, self.num)
        if not self.bulk:
            names = [*(file_name(r) for r in requests), "grid.png", MANIFEST]
            files.refuse_existing(out, names, overwrite=self.overwrite)
        elif out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; --out must be a folder")
        lock = distributed.locked_by_zero(out, "unclip sample --prompts")
        with lock if self.bulk else contextlib.nullcontext():
            with files.scratch_for(out, inside=True) as scratch:
                return self._make(requests, out, scratch, choices, progress)

    def _make(
        self,
        requests: Sequence[Any],
        out: Path,
        scratch: Path,
        choices: dict[str, Any],
        progress: Progress,
    ) -> dict[str, Any] | None:
        from unclip_jax.checkpoint import bundle
        from unclip_jax.core import distributed
        from unclip_jax.core.prng import root_key
        from unclip_jax.sampling.monitor import Monitor
        from unclip_jax.sampling.pipeline import generate
        from unclip_jax.sampling.prompts import read_prompts
        from unclip_jax.sampling.settings import SampleSettings, resolve

        model = bundle.load(self.model)
        plan = resolve(model, SampleSettings(**choices))
        read = dict(zip(self.captions, read_prompts(model, self.captions), strict=True))
        cut = self._notes(model, plan, read, choices) if distributed.is_process_zero() else []
        settings = {"model": self.model, "seed": self.seed, "num": self.num, **plan.to_json()}
        identity = {"settings": settings, "prompts": _digest(self.captions)}
        identity |= {"parameters": model.identity, **common.origin(model)}
        missing = self._begin_bulk(requests, out, scratch, identity) if self.bulk else requests
        ready = scratch / "ready"
        ready.mkdir(exist_ok=True)
        done = 0
        monitor = Monitor(progress.report)
        batches = generate(model, missing, root_key(self.seed), plan, monitor)
        progress.count(0, len(missing), "images")
        progress.phase("encoding the prompts")
        for images in batches:
            for image, request in zip(images, missing[done:], strict=False):
                self._save(ready / file_name(request), image, request, settings)
            done += len(images)
            progress.count(done, len(missing), "images")
            if self.bulk:
                files.publish(ready, out, overwrite=True)
                ready.mkdir(exist_ok=True)
        if self.bulk:
            distributed.wait_for_all("sampled")
            if not distributed.is_process_zero():
                return None
            _refuse_gaps(requests, out)
        result = {"settings": settings, "seconds": monitor.seconds}
        result |= {"cut_prompts": cut} if cut else {}
        return self._finish(requests, (out, ready), read, result, identity)

    def _finish(
        self,
        requests: Sequence[Any],
        folders: tuple[Path, Path],
        read: dict[str, str],
        result: dict[str, Any],
        identity: dict[str, Any],
    ) -> dict[str, Any]:
        """Draws the grid, writes the manifest and returns the result that `--json` prints."""
        from unclip_jax.text.tokenizer import clean_text

        out, ready = folders
        entries = [
            {
                "path": file_name(request),
                "prompt": request.prompt,
                "read_as": clean_text(read[request.prompt]),
                "seed": self.seed,
                "index": request.prompt_index * self.num + request.draw,
            }
            for request in requests
        ]
        self._draw_grid(requests, out if self.bulk else ready, ready / "grid.png")
        if len(self.captions) > GRID_PROMPTS:
            say(f"grid.png shows the first {GRID_PROMPTS} of {len(self.captions)} prompts")
        elif self.num > GRID_DRAWS:
            say(f"grid.png shows the first {GRID_DRAWS} of {self.num} images a prompt")
        seconds = {name: round(value, 3) for name, value in result["seconds"].items()}
        result = {"images": entries, "grid": "grid.png", **result, "seconds": seconds}
        common.write_json(ready / MANIFEST, {**result, **identity, "complete": True})
        files.publish(ready, out, overwrite=self.overwrite or self.bulk)
        located = [{**entry, "path": str(out / entry["path"])} for entry in entries]
        return {**result, "images": located, "grid": str(out / "grid.png")}

    def _notes(
        self, model: Any, plan: Any, read: dict[str, str], choices: dict[str, Any]
    ) -> list[str]:
        """Says on stderr what may surprise; returns the prompts that are longer than CLIP reads."""
        from unclip_jax.sampling.prompts import FAR, far_line, quoted, unknown_words

        if not model.cascade and choices["size"] is None:
            say(f"images have {plan.size} pixels: bundle {model.name!r} has no upsampler")
        context = model.clip.spec.model.text.context
        cut = []
        if model.tokenizer is not None:
            flags = model.tokenizer.encode(list(read.values()), context=context).truncated
            cut = [caption for caption, is_cut in zip(read, flags, strict=True) if is_cut]
        begun = f"only the first {context - 2} pieces of this prompt are read: "
        _say_each([begun + quoted(caption) for caption in cut[:SAID]], begun, len(cut))
        unknown = [(c, unknown_words(model, c)) for c in itertools.islice(read, FAR_LIMIT)]
        far = [(caption, words) for caption, words in unknown if words]
        _say_each([far_line(*each) for each in far[:SAID]], f"{FAR}: ", len(far))
        return cut

    def _begin_bulk(
        self, requests: Sequence[Any], out: Path, scratch: Path, identity: dict[str, Any]
    ) -> list[Any]:
        """Returns the requests this host is to make; a folder of another run is refused."""
        from unclip_jax.core import distributed

        goes_on = False

        def begin() -> None:
            nonlocal goes_on
            goes_on = self.goes_on(requests, out, scratch, identity)

        distributed.run_on_process_zero(begin)
        mine = distributed.local_shard(requests, lambda request: request.prompt_index)
        if distributed.broadcast_from_zero(goes_on):
            return [r for r in mine if not is_whole_png(out / file_name(r))]
        return mine

    def goes_on(
        self, requests: Sequence[Any], out: Path, scratch: Path, identity: dict[str, Any]
    ) -> bool:
        """Whether the folder holds a part of this very run; if none, it begins there."""
        manifest = out / MANIFEST
        if manifest.exists() and not self.overwrite:
            held = _read_manifest(manifest)
            if "parameters" not in held:
                raise UserError(
                    f"{out} does not say which parameters made its images, so that it cannot be "
                    "gone on with; choose another --out or pass --overwrite"
                )
            differing = [key for key in identity if held.get(key) != identity[key]]
            if differing:
                raise UserError(
                    f"{out} holds a run with other {' and '.join(differing)}; "
                    "choose another --out or pass --overwrite"
                )
            return True
        names = [file_name(request) for request in requests]
        files.refuse_existing(out, ["grid.png", *names], overwrite=self.overwrite)
        begun = scratch / "begun"
        begun.mkdir()
        common.write_json(begun / manifest.name, {"images": [], **identity, "complete": False})
        files.publish(begun, out, overwrite=self.overwrite)
        return False

    def _save(self, path: Path, image: Any, request: Any, settings: dict[str, Any]) -> None:
        from unclip_jax.core.rendering import save_png

        text = {
            "prompt": request.prompt,
            "seed": str(self.seed),
            "index": str(request.prompt_index * self.num + request.draw),
            "prompt_index": str(request.prompt_index),
            "draw": str(request.draw),
            "settings": json.dumps(settings, ensure_ascii=False),
            "Software": "unclip_jax",
        }
        save_png(path, image, text)

    def _draw_grid(self, requests: Sequence[Any], folder: Path, path: Path) -> None:
        import numpy as np
        from PIL import Image

        from unclip_jax.core.rendering import labeled_grid
        from unclip_jax.sampling.prompts import spell_emoji

        rows: dict[int, list[Any]] = {}
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
        labeled_grid(list(rows.values()), list(labels.values())).save(path)


def _say_each(lines: Sequence[str], begun: str, count: int) -> None:
    """Says the first lines of some prompts, and of how many more the same could be said."""
    for line in lines:
        say(line)
    if count > len(lines):
        say(f"{begun}{count - len(lines):,} more prompts")


def _refuse_gaps(requests: Sequence[Any], out: Path) -> None:
    """Fails if an image is not there after all hosts have written theirs."""
    missing = [r for r in requests if not is_whole_png(out / file_name(r))]
    if missing:
        raise UserError(
            f"{len(missing)} images of other hosts are not in {out}, such as "
            f"{file_name(missing[0])}; --out must be a folder that all hosts share"
        )


def is_whole_png(path: Path) -> bool:
    """Whether a file is a PNG to its end: a full disk or a lost machine may leave a part of one."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, struct.error):
        return False
    return True


def file_name(request: Any) -> str:
    """Returns the name of an image's file: its prompt's number, the prompt, the draw."""
    return f"{request.prompt_index:03d}-{_slug(request.prompt)}-{request.draw:02d}.png"


def _digest(captions: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(captions).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read_manifest(path: Path) -> dict[str, Any]:
    return files.read_mapping(path, remedy="delete it or pass --overwrite")
