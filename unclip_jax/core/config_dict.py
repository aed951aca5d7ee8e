"""Fills the sections of config files with the defaults of their dataclasses.

Defaults are written once, in the dataclasses. Missing fields are added before flags are parsed, so
that every field can be set by --config.SECTION.KEY.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Union

from ml_collections import ConfigDict, config_dict

from unclip_jax.core.config import to_dict
from unclip_jax.core.errors import UserError
from unclip_jax.core.renamed import OLD_NAME, warn
from unclip_jax.core.suggest import did_you_mean


def with_defaults(section: ConfigDict, cls: type) -> ConfigDict:
    """Adds the missing fields of `cls` to `section` and its nested sections; returns `section`.

    A field without a default is not added: `core.config.build` reports it. One whose default is
    None accepts values of its type; a section that is None stays None.
    """
    hints = typing.get_type_hints(cls)
    with section.unlocked():
        for field in dataclasses.fields(cls):
            kinds = _kinds(hints[field.name])
            nested = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
            old = field.metadata.get(OLD_NAME)
            if old is not None and old in section:  # of a user's config file; `build` warns
                continue
            kind = _scalar(hints[field.name])
            value = section.get(field.name, field.default)
            if nested is not None and isinstance(value, ConfigDict):
                with_defaults(value, nested)
            elif nested is None and field.name in section and value is None and kind:
                section[field.name] = config_dict.placeholder(kind)
            elif field.name not in section and value is not dataclasses.MISSING and field.init:
                section[field.name] = _value(value, kind)
    return section


def with_changes(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Sets values of a config by "SECTION.KEY", and returns it; missing sections are added."""
    with config.unlocked(), config.ignore_type():
        for path, value in changes.items():
            *sections, key = path.split(".")
            section = config
            for name in sections:
                if section.get(name) is None:
                    section[name] = ConfigDict()
                section = section[name]
            with section.unlocked(), section.ignore_type():
                section[key] = value
    return config


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str = ""
) -> dict[str, Any]:
    """Returns the values of `after` that differ, by "SECTION.KEY"."""
    found: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            found |= changes_between(old, value, f"{path}{key}.")
        elif value != old:
            found[f"{path}{key}"] = value
    return found


def split_none(flags: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Splits off flags that set a field to None, which ml_collections has no spelling for.

    Of several flags of one field the last one counts.

    Returns:
        The other flags, and the keys of each "--config.SECTION.KEY=None".
    """
    last = {flag.partition("=")[0]: flag for flag in flags}
    none = [path for path, flag in last.items() if flag == f"{path}=None"]
    rest = [flag for flag in flags if flag != f"{flag.partition('=')[0]}=None"]
    return rest, [path.split(".")[1:] for path in none]


def set_none(config: dict[str, Any], keys: Sequence[str]) -> None:
    """Sets a field of nested dicts to None; whether it may be None is checked by `build`.

    Raises:
        UserError: there is no such field.
    """
    section = check_key(config, keys)
    section[keys[-1]] = None


def check_key(config: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Returns the nested dict that has the field `keys`.

    Raises:
        UserError: there is no such field; the message names the nearest one.
    """
    section: Any = config
    for i, key in enumerate(keys):
        name = key.partition("[")[0]  # of an entry of a list
        if not isinstance(section, dict) or name not in section:
            hint = did_you_mean(name, section if isinstance(section, dict) else ())
            raise UserError(f"unknown key config.{'.'.join(keys)}{hint and '; ' + hint}")
        if i < len(keys) - 1:
            section = section[name]
    return section


def with_new_flags(flags: Sequence[str], sections: Mapping[str, type]) -> list[str]:
    """Returns --config.SECTION.KEY=VALUE flags with old names of fields replaced; warns of them.

    Args:
        sections: the dataclass of each section.
    """
    return [_with_new_flag(flag, sections) for flag in flags]


def _with_new_flag(flag: str, sections: Mapping[str, type]) -> str:
    path, equals, value = flag.partition("=")
    option, *keys = path.split(".")
    cls = sections.get(keys[0]) if keys else None
    for i, key in enumerate(keys[1:], 1):
        if cls is None:
            break
        fields = {field.metadata.get(OLD_NAME, None): field for field in dataclasses.fields(cls)}
        if key in fields:
            keys[i] = fields[key].name
            warn(path, ".".join([option, *keys]))
        kinds = _kinds(typing.get_type_hints(cls).get(keys[i]))
        cls = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
    return ".".join([option, *keys]) + equals + value


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Returns the types of a union without None; of another type, the type alone."""
    is_union = typing.get_origin(hint) in (Union, types.UnionType)
    kinds = typing.get_args(hint) if is_union else (hint,)
    return tuple(kind for kind in kinds if kind is not type(None))


def _scalar(hint: Any) -> type | None:
    """Returns the type of an optional field's values, None if the field is not an optional one."""
    kinds = _kinds(hint)
    if hint in kinds or dataclasses.is_dataclass(kinds[0]):
        return None
    return typing.get_origin(kinds[0]) or kinds[0]


def _value(default: Any, kind: type | None) -> Any:
    """Returns a default as a config holds it; that of an optional field keeps its type."""
    if dataclasses.is_dataclass(default):
        return ConfigDict(to_dict(default))
    return default if kind is None else config_dict.FieldReference(default, field_type=kind)
