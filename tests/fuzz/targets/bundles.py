"""bundle.json of a bundle whose other files are whole."""

import functools
import json
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.framework import Target, kept_folder, link_all
from tests.fuzz.hostile import hostile_json


@functools.cache
def sample() -> Path:
    from tests.toy import toy_bundle
    from unclip_jax.checkpoint import bundle

    return bundle.save(toy_bundle(), kept_folder("bundles") / "toy")


def manifests() -> st.SearchStrategy[bytes]:
    return hostile_json(json.loads((sample() / "bundle.json").read_text()))


def load(case: bytes, folder: Path) -> None:
    from unclip_jax.checkpoint import bundle

    link_all(sample(), folder, "bundle.json")
    (folder / "bundle.json").write_bytes(case)
    bundle.load(folder)


TARGETS = [Target("bundle.json", st.deferred(manifests), load, ms=60.0)]
