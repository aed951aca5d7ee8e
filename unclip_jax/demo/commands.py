"""What the page makes of captions, as commands like those of workflows/manipulations.

The same bundle, caption, seed and settings give the images of `unclip sample`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from unclip_jax.core.rendering import Strip, labeled_grid, labeled_strips
from unclip_jax.sampling.pipeline import Request, generate, requests_for
from unclip_jax.sampling.prompts import spell_emoji
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve
from unclip_jax.workflows.image_commands import Pixels, Session
from unclip_jax.workflows.images import ImageOutputs, OutputImage
from unclip_jax.workflows.manipulations import Interpolate
from unclip_jax.workflows.text_to_image import file_name


def draw(
    session: Session, prompts: Sequence[str], num: int, plan: Plan
) -> tuple[list[Request], UInt8[np.ndarray, "n h w 3"]]:
    """Samples `num` images per caption."""
    requests = requests_for(prompts, num)
    batches = list(generate(session.model, requests, session.key, plan, session.monitor))
    return requests, np.concatenate(batches)


@dataclasses.dataclass(frozen=True)
class Captions:
    """Captions and the settings of the sampling; no image.

    Attributes:
        settings: fields of SampleSettings.
    """

    texts: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def stem(self) -> str:
        """The captions."""
        return " ".join(self.texts)

    @property
    def paths(self) -> tuple[Path, ...]:
        """No image."""
        return ()

    @property
    def files(self) -> tuple[str, ...]:
        """Not known before; the folder is new."""
        return ()


@dataclasses.dataclass(frozen=True)
class Sample(Captions):
    """Draws `num` images of a caption (unCLIP §2)."""

    num: int

    name: ClassVar[str] = "sample"

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Samples from captions to z_i to pixels."""
        plan = resolve(session.model, SampleSettings(**self.settings))
        requests, made = draw(session, self.texts, self.num, plan)
        label = spell_emoji(self.texts[0])  # the font has no emoji
        return ImageOutputs(
            [
                OutputImage(file_name(r), image, r.prompt, {"draw": r.draw})
                for r, image in zip(requests, made, strict=True)
            ],
            labeled_grid([list(made)], [label], columns=4),
            {"num": self.num, **plan.to_json()},
            {},
        )


@dataclasses.dataclass(frozen=True)
class ComparePriors(Captions):
    """Draws the same caption with several priors, from the same keys (unCLIP §5.1)."""

    num: int
    priors: tuple[str, ...]

    name: ClassVar[str] = "priors"

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Samples with one prior after the other."""
        outputs, strips, plans = [], [], {}
        for prior in self.priors:
            plan = resolve(session.model, SampleSettings(**self.settings, prior=prior))
            requests, made = draw(session, self.texts, self.num, plan)
            strips.append(Strip(f"prior: {prior}", list(made), [""] * len(made)))
            plans[prior] = plan.to_json()
            outputs += [
                OutputImage(f"{prior}-{file_name(r)}", image, r.prompt, {"prior": prior})
                for r, image in zip(requests, made, strict=True)
            ]
        return ImageOutputs(outputs, labeled_strips(strips), {"num": self.num, "by": plans}, {})


@dataclasses.dataclass(frozen=True)
class InterpolateCaptions(Captions):
    """Interpolates between two ends, of which those given as a caption are drawn first (§3.2).

    Attributes:
        ends: whether the first and the second end is a caption; the others are images.
    """

    ends: tuple[bool, bool]
    between: Interpolate

    name: ClassVar[str] = "interpolate"

    def run(self, session: Session, images: Sequence[Pixels]) -> ImageOutputs:
        """Draws what is missing, then the path."""
        plan = resolve(session.model, SampleSettings(**self.settings))
        drawn, given = iter(draw(session, self.texts, 1, plan)[1]), iter(images)
        both = [next(drawn if is_caption else given) for is_caption in self.ends]
        outputs = self.between.run(session, both)
        captions = {"captions": self.texts, "drawn_with": plan.to_json()}
        return dataclasses.replace(outputs, settings={**outputs.settings, **captions})
