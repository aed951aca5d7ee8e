"""Reading icon sets by code point and by name."""

import json

import pytest

from tests.data.emoji_world import write_tarball
from unclip_jax.core.errors import UserError
from unclip_jax.data.sets import iconify


def icon_set(folder, icons, **more):
    path = folder / "set.tgz"
    files = {"icons.json": json.dumps({"icons": icons, **more})}
    write_tarball(path, files)
    return path


def test_an_icon_is_its_box(tmp_path):
    """Left, top, width and height are the set's where an icon has none of its own."""
    icons = {"a": {"body": "<g/>", "left": -1, "height": 12}, "b": {"body": "", "top": 3}}
    wide = iconify.read_by_name(icon_set(tmp_path, icons, width=24, height=24), {"x": ["a"]})
    assert b'viewBox="-1 0 24 12" width="24" height="12"><g/></svg>' in wide["x"]
    plain = iconify.read_by_name(icon_set(tmp_path, icons), {"x": ["b"]})
    assert b'viewBox="0 3 16 16"' in plain["x"]


def test_the_best_name_takes_an_icon(tmp_path):
    """A key whose first name it is takes it; of two with equal claim the first by key."""
    icons = {name: {"body": name} for name in ("Cat", "catface", "dog")}
    wanted = {"face": ["cat face", "cat"], "whole": ["cat"], "other": ["cat"], "none": ["cow"]}
    found = iconify.read_by_name(icon_set(tmp_path, icons), wanted)
    assert set(found) == {"face", "other"}
    assert b">catface<" in found["face"] and b">Cat<" in found["other"]


def test_an_alias_that_changes_the_icon_is_not_read(tmp_path):
    aliases = {"love": {"parent": "heart"}, "mirrored": {"parent": "heart", "hFlip": True}}
    path = icon_set(tmp_path, {"heart": {"body": "<g/>"}}, aliases=aliases)
    assert set(iconify.read_by_name(path, {"x": ["love"], "y": ["mirrored"]})) == {"x"}


def test_another_package_is_refused(tmp_path):
    path = tmp_path / "set.tgz"
    write_tarball(path, {"index.js": "x"})
    with pytest.raises(UserError, match="no icons.json; it is not an Iconify set"):
        iconify.read_by_name(path, {})
