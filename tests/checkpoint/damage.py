"""Ways to damage a saved bundle, and what loading must say about it."""

import hashlib
import json

import pytest
from safetensors.numpy import load_file, save_file

from unclip_jax.checkpoint import bundle
from unclip_jax.core.errors import UserError


def restate(folder, name):
    """Puts a changed file's true size and hash into bundle.json."""
    manifest = json.loads((folder / "bundle.json").read_text())
    data = (folder / name).read_bytes()
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "bundle.json").write_text(json.dumps(manifest))


def edit(folder, change):
    manifest = json.loads((folder / "bundle.json").read_text())
    change(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def rewrite(folder, change, name="decoder.safetensors"):
    arrays = load_file(folder / name)
    change(arrays)
    save_file(arrays, folder / name)
    restate(folder, name)


def fails(folder, *words, **kwargs):
    with pytest.raises(UserError) as caught:
        bundle.load(folder, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
