"""Old names in users' files: read for one version more, with a line that names the new one."""

import dataclasses
from typing import Literal

import pytest
from ml_collections import ConfigDict

from unclip_jax.core.config import build, to_dict
from unclip_jax.core.config_dict import with_defaults, with_new_flags
from unclip_jax.core.errors import UserError
from unclip_jax.core.renamed import RenamedWarning, renamed, with_old_keys, without_old_keys


@dataclasses.dataclass(frozen=True)
class Part:
    kind: Literal["new", "other"] = renamed(values={"old": "new"}, default="other")
    bound: float | None = renamed("clip", default=None)


@dataclasses.dataclass(frozen=True)
class Whole:
    size: int = renamed("side")
    part: Part = Part()


def test_old_names_and_values_are_read_with_a_line_each():
    with pytest.warns(RenamedWarning) as caught:
        made = build(Whole, {"side": 2, "part": {"kind": "old", "clip": 3}}, "x")
    assert made == Whole(2, Part("new", 3.0))
    assert [str(w.message) for w in caught] == [
        "x.side is now called x.size",
        "x.part.kind='old' is now called 'new'",
        "x.part.clip is now called x.part.bound",
    ]


def test_new_names_are_silent_and_written():
    made = build(Whole, {"size": 2, "part": {"kind": "new"}})
    assert to_dict(made) == {"size": 2, "part": {"kind": "new", "bound": None}}


def test_both_names_at_once_are_refused():
    with pytest.raises(UserError, match=r"x\.side is the old name of size; give only one"):
        build(Whole, {"size": 1, "side": 2}, "x")


def test_a_field_without_a_default_still_has_none():
    with pytest.raises(UserError, match="size is missing"):
        build(Whole, {})


def test_a_config_file_may_use_an_old_name():
    config = with_defaults(ConfigDict({"side": 4, "part": {"clip": 1.0}}), Whole)
    with pytest.warns(RenamedWarning):
        assert build(Whole, config.to_dict()) == Whole(4, Part(bound=1.0))


def test_json_keys_are_written_under_both_names_and_read_under_either():
    both = with_old_keys({"name": "x", "license": "MIT"})
    assert both == {"name": "x", "license": "MIT", "licence": "MIT"}
    for entries in (both, {"name": "x", "licence": "MIT"}, {"name": "x", "license": "MIT"}):
        assert without_old_keys(entries) == {"name": "x", "license": "MIT"}
    assert without_old_keys({"license": "new", "licence": "old"}) == {"license": "new"}


def test_flags_may_use_an_old_name():
    flags = [
        "--config.s.side=4",
        "--config.s.part.clip=1.0",
        "--config.s.size=2",
        "--config.a.side=3",
    ]
    with pytest.warns(RenamedWarning) as caught:
        found = with_new_flags([*flags, "--workdir"], {"s": Whole})
    assert found == [
        "--config.s.size=4",
        "--config.s.part.bound=1.0",
        "--config.s.size=2",
        "--config.a.side=3",
        "--workdir",
    ]
    assert [str(w.message) for w in caught] == [
        "--config.s.side is now called --config.s.size",
        "--config.s.part.clip is now called --config.s.part.bound",
    ]
