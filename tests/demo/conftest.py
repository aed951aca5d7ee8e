"""A studio of the toy bundle, and a command that samples nothing."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from tests.demo.serve import free_port, running
from tests.toy import toy_bundle, with_prior_ar
from unclip_jax.demo.studio import Studio
from unclip_jax.workflows.images import ImageOutputs, OutputImage


@pytest.fixture(scope="session")
def toy():
    return with_prior_ar(toy_bundle())


@pytest.fixture
def studio(toy, tmp_path):
    return Studio(toy, "toy", tmp_path)


@pytest.fixture(scope="package")
def page(tmp_path_factory):
    """Serves the toy bundle: its address, the folder of its process, and its log."""
    home, port = tmp_path_factory.mktemp("page"), free_port()
    with running(home, port, "tests.demo.serve", str(port), str(home)) as (address, _, log):
        yield address, home, log


@dataclasses.dataclass(frozen=True)
class Fake:
    """A command whose one image has the gray of `shade`; `work` is done before."""

    shade: int = 0
    work: Callable[[Any], None] = lambda session: None
    texts: Sequence[str] = ("a caption",)

    name: ClassVar[str] = "fake"
    stem: ClassVar[str] = "a caption"
    paths: ClassVar[tuple[Path, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()

    def run(self, session, images):
        self.work(session)
        pixels = np.full((16, 16, 3), self.shade, np.uint8)
        made = OutputImage("made.png", pixels, "a caption", {"theta": 0.25})
        return ImageOutputs([made], Image.fromarray(pixels), {"num": 1}, {})
