"""Builds frozen config dataclasses from plain mappings (config files, JSON), strictly.

An unknown or missing key, a value of the wrong type, a number that is not finite or an integer of
more than 64 bits is a UserError that names the key by its full path. The only conversions are
int -> float and list -> tuple, because JSON and config files do not distinguish them.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

import numpy as np

from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.renamed import with_new_names
from unclip_jax.core.suggest import did_you_mean

T = TypeVar("T")


def build(cls: type[T], values: Any, path: str = "") -> T:
    """Builds the dataclass `cls`, and the dataclasses nested in it, from a mapping.

    Keys that are left out take the field's default; old names are read (core.renamed). A ValueError
    of the class's own checks (`__post_init__`) is reported as a UserError with the path in front.

    Args:
        values: should be a mapping; anything else that a file may hold is a UserError.
        path: prefix of the keys in messages, such as "model".

    Raises:
        UserError: names the key by its path.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{path or cls.__name__}: expected a mapping, got {_shown(values)}")
    values = with_new_names(cls, values, path)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in values:
        if key not in fields:
            raise UserError(_unknown_key(_join(path, str(key)), str(key), list(fields)))
    hints = typing.get_type_hints(cls)
    given = {key: _convert(hints[key], value, _join(path, key)) for key, value in values.items()}
    for name, field in fields.items():
        has_default = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        if name not in given and not has_default:
            raise UserError(f"{_join(path, name)} is missing and has no default")
    try:
        return cls(**given)
    except ValueError as error:
        raise UserError(f"{path or cls.__name__}: {error}") from error
    except ArithmeticError as error:  # a check divides by a size
        raise UserError(
            f"{path or cls.__name__}: a size must not be 0 or so large ({error})"
        ) from error


def to_dict(cfg: Any) -> dict[str, Any]:
    """Returns a config dataclass as JSON-able values; `build(type(cfg), to_dict(cfg)) == cfg`."""
    if not dataclasses.is_dataclass(cfg) or isinstance(cfg, type):
        raise TypeError(f"{cfg!r} is not a config dataclass")
    return {f.name: _plain(getattr(cfg, f.name)) for f in dataclasses.fields(cfg) if f.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} cannot be written as JSON")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _unknown_key(full: str, key: str, known: list[str]) -> str:
    otherwise = f"known keys: {', '.join(sorted(known))}"
    return f"unknown key {full}; {did_you_mean(key, known, otherwise)}"


def _wrong(path: str, expected: str, value: Any) -> UserError:
    return UserError(f"{path}: expected {expected}, got {_shown(value)}")


def _shown(value: Any) -> str:
    """Returns a value as text, shortened for a message."""
    try:
        return shorten(repr(value), 200)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return "an integer of thousands of digits"


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Returns `value` as type `hint`, or raises a UserError that names `path`."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, path)
    if origin is Literal:
        return _convert_literal(typing.get_args(hint), value, path)
    if hint is tuple or origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, path)
    if origin is not None and issubclass(origin, Mapping):
        return _convert_mapping(typing.get_args(hint), value, path)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, path)
    return _convert_scalar(hint, value, path)


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise _wrong(path, "a number of at most 64 bits", value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is float and not math.isfinite(value):
        raise _wrong(path, "a finite number", value)
    if hint is None or hint is type(None):
        if value is None:
            return None
        raise _wrong(path, "None", value)
    is_stray_bool = isinstance(value, bool) and hint is not bool
    if is_stray_bool or not isinstance(value, hint):
        raise _wrong(path, hint.__name__, value)
    return value


def _convert_union(hint: Any, value: Any, path: str) -> Any:
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _convert(options[0], value, path)
    for option in options:  # the exact type first, so that 1 stays an int for int | float
        if option is type(value):
            return _convert(option, value, path)
    for option in options:
        try:
            return _convert(option, value, path)
        except UserError:
            continue
    raise _wrong(path, " or ".join(getattr(o, "__name__", str(o)) for o in options), value)


def _convert_literal(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise _wrong(path, "one of " + ", ".join(str(choice) for choice in choices), value)


def _convert_tuple(items: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise _wrong(path, "a list", value)
    if not items:
        return tuple(value)
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise _wrong(path, f"{len(items)} values", value)
    pairs = zip(items, value, strict=True)
    return tuple(_convert(item, part, f"{path}[{i}]") for i, (item, part) in enumerate(pairs))


def _convert_mapping(items: tuple[Any, ...], value: Any, path: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(path, "a mapping", value)
    key_hint, item_hint = items or (Any, Any)
    return {
        _convert(key_hint, key, path): _convert(item_hint, item, _join(path, str(key)))
        for key, item in value.items()
    }
