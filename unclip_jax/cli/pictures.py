"""Commands that take pictures and make pictures: their options, inputs, files and results."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress, say
from unclip_jax.core import files
from unclip_jax.core.errors import UserError

SIDE_LIMIT = 8  # pixels; anything smaller shows nothing


def read_image(path: Path) -> Any:
    """Reads an image file as uint8 RGB, upright, transparency over white."""
    from unclip_jax.data.images import decode

    pixels = _read(path, decode)
    if min(pixels.shape[:2]) < SIDE_LIMIT:
        raise UserError(
            f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels are too few; at least "
            f"{SIDE_LIMIT} a side"
        )
    return pixels


def read_mask(path: Path) -> Any:
    """Reads a mask file as bool, True where it is white or transparent."""
    from unclip_jax.data.images import decode_mask

    return _read(path, decode_mask)


def _read(path: Path, read: Callable[[bytes], Any]) -> Any:
    from unclip_jax.data.images import read_bytes, without_size_warning

    data = read_bytes(path)
    try:
        with without_size_warning():
            return read(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def options(*, inverts: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options that these commands share.

    Args:
        inverts: whether the command inverts the decoder.
    """
    own = "1 (off)" if inverts else "the bundle's"
    added = [
        common.model_option,
        click.option("--out", type=click.Path(path_type=Path), help="Folder; default: a new one."),
        common.seed_option,
        click.option("--size", type=click.IntRange(1), help="Pixels: one of the bundle's sizes."),
        click.option("--guidance", type=float, help=f"Scale of the decoder; default: {own}."),
        click.option("--steps", type=click.IntRange(1), help="Steps of decoding."),
        click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32"),
        common.json_option,
        click.option("--overwrite", is_flag=True, help="Replace existing files."),
    ]
    if inverts:
        levels = click.IntRange(1)
        added.insert(
            6, click.option("--invert-steps", type=levels, help="Levels of the inversion.")
        )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(added):
            command = option(command)
        return command

    return decorate


@dataclasses.dataclass(frozen=True)
class Picture:
    """One file to write: its image, and what its PNG text and its line in the manifest say."""

    name: str
    image: Any
    prompt: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Made:
    """What a command made.

    Attributes:
        figure: the labelled strip or grid.
        settings: beside model and seed.
        inputs: the given pictures as they were used, by file name.
        frames: of the GIF, if there is one.
        notes: lines for stderr.
    """

    pictures: Sequence[Picture]
    figure: Any
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    frames: Sequence[Any] | None = None
    notes: Sequence[str] = ()


GIF = "frames.gif"


@dataclasses.dataclass(frozen=True)
class Job:
    """One call of a command, apart from what it makes."""

    command: str
    model: str
    out: Path | None
    seed: int
    as_json: bool
    overwrite: bool

    @classmethod
    def of(cls, command: str, given: dict[str, Any]) -> "Job":
        """Takes the job's own options out of those given."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "command"]
        return cls(command, **{name: given.pop(name) for name in names})

    def run(
        self,
        stem: str,
        names: Sequence[str],
        make: Callable[..., Made],
        images: Mapping[Path, Any],
        texts: Sequence[str] = (),
    ) -> None:
        """Makes everything, writes it whole or not at all, and prints the result.

        Args:
            stem: of the default folder's name.
            names: of the files that will be written, beside grid.png and manifest.json.
            make: make(bundle, root key, monitor) -> what was made.
            images: the given images by their file, which may be unlike the training set's.
            texts: the given texts, which may have words that it lacks.
        """
        from unclip_jax.core.rendering import slug
        from unclip_jax.sampling.prompts import check_lengths, spell_emoji

        check_lengths(texts)
        name = slug(spell_emoji(f"{self.command} {stem}"))
        out = self.out or common.fresh_folder(Path("samples"), name)
        files.refuse_existing(out, [*names, "grid.png", "manifest.json"], overwrite=self.overwrite)
        with files.scratch_for(out, inside=True) as scratch, Progress() as progress:
            progress.phase(f"loading {self.model}")
            common.use_compile_cache()
            from unclip_jax.checkpoint import bundle
            from unclip_jax.core.prng import root_key
            from unclip_jax.sampling.monitor import Monitor

            model = bundle.load(self.model)
            far = warn_of_unlike(model, images)
            warn_of_words(model, texts)
            monitor = Monitor(progress.report)
            made = make(model, root_key(self.seed), monitor)
            ready = scratch / "ready"
            ready.mkdir()
            seconds = {name: round(value, 3) for name, value in monitor.seconds.items()}
            result = self._write(made, ready, common.origin(model) | far, seconds)
            result |= far
            files.publish(ready, out, overwrite=self.overwrite)
        self._report(result, out, made)

    def _write(
        self, made: Made, folder: Path, origin: dict[str, Any], seconds: dict[str, float]
    ) -> dict[str, Any]:
        from unclip_jax.core.rendering import save_gif, save_png

        settings = {
            "command": self.command,
            "model": self.model,
            "seed": self.seed,
            **made.settings,
        }
        entries = []
        for index, picture in enumerate(made.pictures):
            own = {"prompt": picture.prompt, "seed": self.seed, "index": index, **picture.facts}
            text = {key: str(value) for key, value in own.items()}
            text |= {"settings": json.dumps(settings, ensure_ascii=False), "Software": "unclip_jax"}
            save_png(folder / picture.name, picture.image, text)
            entries.append({"path": picture.name, **own})
        for name, image in made.inputs.items():
            save_png(folder / name, image, {"Software": "unclip_jax"})
        made.figure.save(folder / "grid.png")
        result = {"images": entries, "grid": "grid.png", "settings": settings, "seconds": seconds}
        if made.frames is not None:
            save_gif(folder / GIF, made.frames)
            result["gif"] = GIF
        common.write_json(folder / "manifest.json", {**result, **origin})
        return result

    def _report(self, result: dict[str, Any], out: Path, made: Made) -> None:
        for note in made.notes:
            click.echo(f"unclip: {note}", err=True)
        images = [{**entry, "path": str(out / entry["path"])} for entry in result["images"]]
        located = {name: str(out / result[name]) for name in ("grid", "gif") if name in result}
        result = {**result, "images": images, **located}
        if self.as_json:
            common.echo_json(result)
            return
        for path in [*(image["path"] for image in images), *located.values()]:
            click.echo(path)


def warn_of_unlike(model: Any, images: Mapping[Path, Any]) -> dict[str, list[str]]:
    """Says which images are unlike the training set; returns {"far_from_training": their files}."""
    from unclip_jax.sampling.unlike import is_unlike_training

    far = [str(path) for path, image in images.items() if is_unlike_training(model, image)]
    for path in far:
        say(
            f"{path} is far from what this model was trained on, drawings on white ground: "
            "do not rely on the result"
        )
    return {"far_from_training": far}


def warn_of_words(model: Any, texts: Sequence[str]) -> None:
    """Says which words of texts the training captions lack."""
    from unclip_jax.sampling.prompts import far_line, unknown_words

    for text in texts:
        if unknown := unknown_words(model, text):
            say(far_line(text, unknown))


def latent_settings(given: Mapping[str, Any]) -> Any:
    """Returns the settings of a manipulation from a command's options."""
    from unclip_jax.sampling.latents import LatentSettings

    names = [field.name for field in dataclasses.fields(LatentSettings)]
    return LatentSettings(**{name: given[name] for name in names if given.get(name) is not None})


def fitted(model: Any, image: Any, size: int) -> Any:
    """Returns an image as the square that a bundle sees it as."""
    from unclip_jax.sampling.latents import image_fit, squares

    return squares([image], size, image_fit(model))[0]
