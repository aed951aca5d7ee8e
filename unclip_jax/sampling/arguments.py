"""Checks of what a user passes to the calls of the package: names, types and numbers."""

import operator
from collections.abc import Mapping
from numbers import Integral
from typing import Any, TypeVar, get_args, get_type_hints

from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.suggest import did_you_mean

T = TypeVar("T")


def check_num(num: object, name: str = "num") -> None:
    """Refuses a number of images, or of what `name` says, that is no integer or below 1."""
    if not isinstance(num, Integral) or num < 1:
        raise UserError(f"{name} must be an integer from 1, not {num!r}")


def settings_of(kind: type[T], call: str, values: Mapping[str, Any]) -> T:
    """Returns the settings `kind` of the keyword arguments that a user gave to `call`.

    Raises:
        UserError: an unknown setting; the message names the nearest known one. A value of another
            type than the setting's.
    """
    known = get_type_hints(kind)
    typed = {}
    for name, value in values.items():
        if name not in known:
            hint = did_you_mean(name, list(known), otherwise=f"there are {', '.join(known)}")
            raise UserError(f"{call} has no setting {name!r}; {hint}")
        typed[name] = _typed(name, value, get_args(known[name]) or (known[name],))
    return kind(**typed)


def _typed(name: str, value: Any, hints: tuple[Any, ...]) -> Any:
    """Returns a setting's value as one of the types of its annotation."""
    if value is None and type(None) in hints:
        return None
    wanted, words, read = next(kind for kind in KINDS if kind[0] in hints)
    try:
        if isinstance(value, str) == (wanted is str):
            return read(value)
    except (TypeError, ValueError):
        pass
    raise UserError(f"{name} must be {words}, not {shorten(repr(value), 60)}")


def _pair(values: Any) -> tuple[float, float]:
    """Returns two numbers as floats."""
    low, high = values
    if isinstance(low, str) or isinstance(high, str):
        raise TypeError
    return float(low), float(high)


KINDS = (
    (tuple[float, float], "two numbers, low and high", _pair),
    (float, "a number", float),
    (int, "an integer", operator.index),
    (str, "a string", str),
)
