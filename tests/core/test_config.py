import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip_jax.core.config import build, to_dict
from unclip_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Attention:
    heads: int = 4
    kind: Literal["self", "cross"] = "self"


@dataclasses.dataclass(frozen=True)
class Net:
    width: int
    rate: float = 0.1
    widths: tuple[int, ...] = (1, 2)
    size: tuple[int, float] = (3, 0.5)
    flag: bool = False
    name: str = ""
    clip: float | None = 1.0
    steps: tuple[int, ...] | None = None
    attention: Attention = dataclasses.field(default_factory=Attention)
    second: Attention | None = None
    scale: int | float | str = 1
    extra: Mapping[str, float] = dataclasses.field(default_factory=dict)
    blocks: tuple[Attention, ...] = ()
    free: Any = None

    def __post_init__(self):
        if self.width % 2:
            raise ValueError(f"{self.width=} must be even")


INTEGERS = st.integers(-(2**62), 2**62 - 1)
ATTENTIONS = st.builds(Attention, INTEGERS, st.sampled_from(["self", "cross"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NETS = st.builds(
    Net,
    width=INTEGERS.map(lambda i: i - i % 2),
    rate=FLOATS,
    widths=st.lists(INTEGERS).map(tuple),
    size=st.tuples(INTEGERS, FLOATS),
    flag=st.booleans(),
    name=st.text(),
    clip=st.none() | FLOATS,
    steps=st.none() | st.lists(INTEGERS).map(tuple),
    attention=ATTENTIONS,
    second=st.none() | ATTENTIONS,
    scale=INTEGERS | FLOATS | st.text(),
    extra=st.dictionaries(st.text(), FLOATS),
    blocks=st.lists(ATTENTIONS).map(tuple),
)


@given(NETS)
def test_a_config_survives_json(cfg):
    again = build(Net, json.loads(json.dumps(to_dict(cfg))))
    assert again == cfg
    assert type(again.scale) is type(cfg.scale)


def test_defaults_and_nesting():
    cfg = build(Net, {"width": 8, "attention": {"kind": "cross"}, "blocks": [{}, {"heads": 2}]})
    assert cfg == Net(8, attention=Attention(4, "cross"), blocks=(Attention(), Attention(2)))


def test_the_two_conversions():
    cfg = build(Net, {"width": np.int64(8), "rate": 1, "widths": [4], "size": [1, 2]})
    assert (cfg.width, cfg.rate, cfg.widths, cfg.size) == (8, 1.0, (4,), (1, 2.0))
    assert [type(v) for v in (cfg.width, cfg.rate, cfg.size[1])] == [int, float, float]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": 8}, "unknown key widht; did you mean width?"),
        (
            {"width": 8, "attention": {"haeds": 1}},
            "unknown key attention.haeds; did you mean heads?",
        ),
        (
            {"width": 8, "attention": {"zzz": 1}},
            "unknown key attention.zzz; known keys: heads, kind",
        ),
        ({}, "width is missing and has no default"),
        ({"width": 7}, "Net: self.width=7 must be even"),
        ({"width": 8.0}, "width: expected int, got 8.0"),
        ({"width": True}, "width: expected int, got True"),
        ({"width": "8"}, "width: expected int, got '8'"),
        ({"width": None}, "width: expected int, got None"),
        ({"width": 8, "rate": True}, "rate: expected float, got True"),
        ({"width": 8, "flag": 1}, "flag: expected bool, got 1"),
        ({"width": 8, "clip": "x"}, "clip: expected float, got 'x'"),
        ({"width": 8, "widths": 3}, "widths: expected a list, got 3"),
        ({"width": 8, "widths": "34"}, "widths: expected a list, got '34'"),
        ({"width": 8, "widths": [1, "2"]}, "widths[1]: expected int, got '2'"),
        ({"width": 8, "size": [1]}, "size: expected 2 values, got [1]"),
        ({"width": 8, "attention": 3}, "attention: expected a mapping, got 3"),
        (
            {"width": 8, "blocks": [{"kind": "x"}]},
            "blocks[0].kind: expected one of self, cross, got 'x'",
        ),
        ({"width": 8, "extra": {"a": "b"}}, "extra.a: expected float, got 'b'"),
        ({"width": 8, "scale": [1]}, "scale: expected int or float or str, got [1]"),
        ([1], "Net: expected a mapping, got [1]"),
        ({"width": 8, "rate": math.nan}, "rate: expected a finite number, got nan"),
        ({"width": 8, "rate": -math.inf}, "rate: expected a finite number, got -inf"),
        ({"width": 8, "clip": math.nan}, "clip: expected a finite number, got nan"),
        ({"width": 8, "scale": math.inf}, "scale: expected a finite number, got inf"),
        ({"width": 8, "extra": {"a": math.nan}}, "extra.a: expected a finite number, got nan"),
    ],
)
def test_mistakes_are_named_by_their_path(values, message):
    with pytest.raises(UserError) as error:
        build(Net, values)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 8, "rate": 10**400}, "rate: expected a number of at most 64 bits, got 1000"),
        ({"width": 2**63}, "width: expected a number of at most 64 bits, got 9223372036854775808"),
        (
            {"width": 10**5000},
            "width: expected a number of at most 64 bits, got an integer of thousands",
        ),
        ({"width": "8" * 5000}, "width: expected int, got '888"),
        ({"width": 0}, "Net: a size must not be 0 or so large (float modulo"),
    ],
)
def test_what_is_too_large_or_divides_by_nothing_is_one_bounded_line(values, message):
    @dataclasses.dataclass(frozen=True)
    class Fit(Net):
        def __post_init__(self):
            assert self.rate % self.width >= 0

    with pytest.raises(UserError) as error:
        build(Fit, values)
    assert str(error.value).startswith(message.replace("Net", "Fit"))
    assert len(str(error.value)) < 400


def test_the_prefix_stands_in_front():
    with pytest.raises(UserError, match=r"^unknown key model\.attention\.head; did you mean heads"):
        build(Net, {"width": 8, "attention": {"head": 1}}, "model")
    with pytest.raises(UserError, match=r"^model: self\.width=7 must be even"):
        build(Net, {"width": 7}, "model")


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError):
        to_dict(Net(8, free=np.zeros(3)))
    with pytest.raises(TypeError):
        to_dict({"width": 8})
    assert to_dict(Net(8, free={"a": (np.float32(0.5), None)}))["free"] == {"a": [0.5, None]}
