"""A small prepared data set for the turns."""

import pytest

from unclip_jax.data import builder, images
from unclip_jax.data.sources import load_source

LICENSES = [{"part": "all", "license": "CC0-1.0", "credit": "nobody", "url": "example.org"}]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A prepared set of shapes, in a folder of data sets."""
    folder = tmp_path_factory.mktemp("data")
    sources = {name: load_source("shapes:size=32,count=48", name) for name in ("train", "test")}

    def records(name):
        for i in range(min(32, len(sources[name]))):
            example = sources[name][i]
            image = images.encode_png(example["image"])
            captions = list(example["captions"])
            yield {**example, "captions": captions, "image": image, "key": f"{name}{i}"}

    splits = {name: lambda name=name: records(name) for name in sources}
    builder.write(folder / "tiny", splits, about="Shapes.", licenses=LICENSES)
    return folder
