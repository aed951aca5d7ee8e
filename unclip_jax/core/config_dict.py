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
from unclip_jax.core.renamed import OLD_NAME, warn


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
            if field.name in section:
                value = section[field.name]
                if nested is not None and isinstance(value, ConfigDict):
                    with_defaults(value, nested)
            elif field.init and field.default is not dataclasses.MISSING:
                section[field.name] = _value(field.default, None if nested else kinds[0])
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


def _value(default: Any, kind: Any) -> Any:
    if dataclasses.is_dataclass(default):
        return ConfigDict(to_dict(default))
    if default is None and kind is not None:
        return config_dict.placeholder(typing.get_origin(kind) or kind)
    return default
