"""The commands that take images: variations, interpolation, edits, reconstruction, inpainting."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool

from unclip_jax.checkpoint.bundle import require_pca
from unclip_jax.core.rendering import Strip, labeled_strips
from unclip_jax.sampling import inpaint, latents, manipulate
from unclip_jax.sampling.latents import LatentSettings, image_fit
from unclip_jax.sampling.settings import SampleSettings
from unclip_jax.workflows.image_commands import Pixels, Session
from unclip_jax.workflows.images import GIF, ImageOutputs, OutputImage

INPUT = "input.png"
MAX_COLUMNS = 12  # of a strip


@dataclasses.dataclass(frozen=True)
class Command:
    """One input image and the settings of the sampling; texts none unless a command has some.

    Attributes:
        settings: fields of LatentSettings, or of SampleSettings for inpainting; None means the
            default.
    """

    image: Path
    settings: Mapping[str, Any]

    @property
    def stem(self) -> str:
        """The file name of the input."""
        return self.image.stem

    @property
    def paths(self) -> tuple[Path, ...]:
        """The input image."""
        return (self.image,)

    @property
    def texts(self) -> tuple[str, ...]:
        """No captions."""
        return ()

    def latent_settings(self) -> LatentSettings:
        """Returns the settings that are given."""
        given = {name: value for name, value in self.settings.items() if value is not None}
        return LatentSettings(**given)


@dataclasses.dataclass(frozen=True)
class Vary(Command):
    """Draws variations of an image (unCLIP §3.1)."""

    eta: float
    num: int

    name: ClassVar[str] = "vary"

    @property
    def files(self) -> list[str]:
        """One file per variation."""
        return [*self._names(), INPUT]

    def _names(self) -> list[str]:
        return [f"variation-{i:02d}.png" for i in range(self.num)]

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Inverts the image, then decodes it with fresh noise of DDIM's eta."""
        plan = latents.resolve_latents(session.model, self.latent_settings(), eta=self.eta)
        varied = manipulate.vary(
            session.model, images, session.key, plan, num=self.num, monitor=session.monitor
        )
        shown = session.square(images[0], plan.size)
        labels = ["input", *(f"variation {i}" for i in range(self.num))]
        strip = Strip(f"{self.image.name}, eta {self.eta:g}", [shown, *varied], labels)
        return ImageOutputs(
            [OutputImage(*pair) for pair in zip(self._names(), varied, strict=True)],
            labeled_strips([strip], columns=9 if self.num <= 8 else 8),
            {"image": str(self.image), "num": self.num, **plan.to_json()},
            {INPUT: shown},
        )


@dataclasses.dataclass(frozen=True)
class Interpolate(Command):
    """Interpolates between two images (unCLIP §3.2)."""

    other: Path
    frames: int
    noise: str
    num: int

    name: ClassVar[str] = "interpolate"

    @property
    def stem(self) -> str:
        """The file names of both inputs."""
        return f"{self.image.stem} {self.other.stem}"

    @property
    def paths(self) -> tuple[Path, ...]:
        """Both input images."""
        return (self.image, self.other)

    @property
    def files(self) -> list[str]:
        """One file per frame, and the GIF of the first path."""
        return [*self._names(), "input-a.png", "input-b.png", GIF]

    def _names(self) -> list[str]:
        pairs = ((n, i) for n in range(self.num) for i in range(self.frames))
        return [f"path-{n:02d}-frame-{i:03d}.png" for n, i in pairs]

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Interpolates the embeddings, and the inverted noise or one fixed noise per path."""
        is_inverted = self.noise == "slerp"
        settings = self.latent_settings()
        plan = latents.resolve_latents(session.model, settings, inverted=is_inverted)
        frames = manipulate.interpolate(
            session.model,
            (images[:1], images[1:]),
            session.key,
            plan,
            frames=self.frames,
            num=self.num,
            monitor=session.monitor,
        )
        thetas = [i / (self.frames - 1) for i in range(self.frames)]
        ends = [session.square(image, plan.size) for image in images]
        labels = ["input A", *(f"{theta:.2f}" for theta in thetas), "input B"]
        paths = [frames[n * self.frames : (n + 1) * self.frames] for n in range(self.num)]
        title = f"{self.image.name} to {self.other.name}, noise {self.noise}"
        strips = [
            Strip("" if n else title, [ends[0], *path, ends[1]], labels)
            for n, path in enumerate(paths)
        ]
        facts = [{"path_number": n, "theta": theta} for n in range(self.num) for theta in thetas]
        rows = zip(self._names(), frames, [""] * len(frames), facts, strict=True)
        settings = {"images": [str(path) for path in self.paths], "noise": self.noise}
        return ImageOutputs(
            [OutputImage(*row) for row in rows],
            labeled_strips(strips, columns=min(self.frames + 2, MAX_COLUMNS)),
            {**settings, "num": self.num, "frames": self.frames, **plan.to_json()},
            {"input-a.png": ends[0], "input-b.png": ends[1]},
            frames=list(paths[0]),
        )


@dataclasses.dataclass(frozen=True)
class Edit(Command):
    """Edits an image toward a text (text diffs, unCLIP §3.3)."""

    target: str
    source: str | None
    frames: int
    max_theta: float

    name: ClassVar[str] = "edit"

    @property
    def stem(self) -> str:
        """The file name of the input and the target."""
        return f"{self.image.stem} {self.target}"

    @property
    def texts(self) -> tuple[str, ...]:
        """Target and source."""
        return (self.target,) if self.source is None else (self.target, self.source)

    @property
    def files(self) -> list[str]:
        """One file per frame, and a GIF."""
        return [*self._names(), INPUT, GIF]

    def _names(self) -> list[str]:
        return [f"edit-{i:03d}.png" for i in range(self.frames)]

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Rotates the embedding toward the text difference, with the inverted noise fixed."""
        plan = latents.resolve_latents(session.model, self.latent_settings())
        thetas = manipulate.edit_thetas(self.frames, self.max_theta)
        source = None if self.source is None else [self.source]
        edited = manipulate.edit(
            session.model,
            images,
            [self.target],
            source,
            session.key,
            plan,
            thetas=thetas,
            monitor=session.monitor,
        )
        shown = session.square(images[0], plan.size)
        title = f"to: {self.target}"
        if self.source is not None:
            title = f"from: {self.source}   {title}"
        labels = ["input", *(f"theta {theta:.2f}" for theta in thetas)]
        facts = [{"theta": round(float(t), 6), "from": self.source or ""} for t in thetas]
        rows = zip(self._names(), edited, [self.target] * self.frames, facts, strict=True)
        strip = Strip(title, [shown, *edited], labels)
        settings = {"image": str(self.image), "to": self.target, "from": self.source}
        settings |= {"frames": self.frames, "max_theta": self.max_theta}
        return ImageOutputs(
            [OutputImage(*row) for row in rows],
            labeled_strips([strip], columns=min(self.frames + 1, MAX_COLUMNS)),
            {**settings, **plan.to_json()},
            {INPUT: shown},
            frames=list(edited),
        )


@dataclasses.dataclass(frozen=True)
class Reconstruct(Command):
    """Decodes an image from the first principal components of its embedding (unCLIP §4).

    Attributes:
        dims: numbers of components; those beyond what there are are clipped.
        pca: file of the components; None for those of the bundle.
    """

    dims: Sequence[int]
    pca: Path | None

    name: ClassVar[str] = "reconstruct"

    @property
    def files(self) -> list[str]:
        """One file per number of components."""
        return [*map(self._name, dict.fromkeys(self.dims)), INPUT]

    def _name(self, count: int) -> str:
        return f"dims-{count:04d}.png"

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Decodes each truncated embedding with one fixed noise."""
        basis = require_pca(session.model, self.pca)
        used = manipulate.usable_dims(self.dims, basis)
        plan = latents.resolve_latents(session.model, self.latent_settings(), inverted=False)
        rebuilt = manipulate.reconstruct(
            session.model, images, session.key, plan, pca=basis, dims=used, monitor=session.monitor
        )
        shown = session.square(images[0], plan.size)
        labels = ["input", *(f"{count} dims" for count in used)]
        strip = Strip(self.image.name, [shown, *rebuilt], labels)
        notes = []
        if max(self.dims) > max(used):
            notes = [f"the embedding has {max(used)} components; larger --dims are clipped"]
        pca = None if self.pca is None else str(self.pca)
        return ImageOutputs(
            [
                OutputImage(self._name(count), image, "", {"dims": count})
                for count, image in zip(used, rebuilt, strict=True)
            ],
            labeled_strips([strip], columns=MAX_COLUMNS),
            {"image": str(self.image), "dims": list(used), "pca": pca, **plan.to_json()},
            {INPUT: shown},
            notes=notes,
        )


@dataclasses.dataclass(frozen=True)
class Inpaint(Command):
    """Fills a masked part of an image from a caption.

    Attributes:
        mask: image file of the mask.
        is_filled: the mask, True where the image is filled.
        resamples: times each stretch of levels is repeated (RePaint).
    """

    prompt: str
    mask: Path
    is_filled: Bool[np.ndarray, "h w"]
    num: int
    resamples: int

    name: ClassVar[str] = "inpaint"

    @property
    def stem(self) -> str:
        """The file name of the input and the prompt."""
        return f"{self.image.stem} {self.prompt}"

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompt."""
        return (self.prompt,)

    @property
    def files(self) -> list[str]:
        """One file per filling."""
        return [*self._names(), INPUT]

    def _names(self) -> list[str]:
        return [f"filled-{i:02d}.png" for i in range(self.num)]

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Fills the masked part `num` times."""
        plan = inpaint.resolve_filling(session.model, SampleSettings(**self.settings))
        fit = image_fit(session.model)
        canvas = inpaint.make_canvas(images, [self.is_filled], plan.size, fit)
        filled = inpaint.inpaint(
            session.model,
            canvas,
            [self.prompt],
            session.key,
            plan,
            num=self.num,
            resamples=self.resamples,
            monitor=session.monitor,
        )
        shown = [canvas.images[0], canvas.hidden()[0]]
        labels = ["input", "to be filled", *(f"filling {i}" for i in range(self.num))]
        settings = {"image": str(self.image), "mask": str(self.mask), "num": self.num}
        settings |= {**plan.to_json(), "eta": 1.0, "resamples": self.resamples}
        rows = zip(self._names(), filled, strict=True)
        return ImageOutputs(
            [OutputImage(name, image, self.prompt) for name, image in rows],
            labeled_strips([Strip(self.prompt, [*shown, *filled], labels)]),
            settings,
            {INPUT: shown[0]},
        )
