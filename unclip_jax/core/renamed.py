"""Old names in users' files and flags: read for one version more, with a line that names the new.

A renamed field of a config dataclass states what it was called, and so does a renamed value:

    x0_bound: float | None = renamed("clip", default=None)
    kind: Literal["l2", "standardize"] = renamed(
        values={"standardise": "standardize"}, default="l2"
    )

`core.config.build` then reads both. Names inside the code have no old forms.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from unclip_jax.core.errors import UserError

OLD_NAME, OLD_VALUES = "old_name", "old_values"

OLD_KEYS = {"license": "licence", "baseline": "floor"}
"""Keys of JSON files, and what they were called: written under both names for one version."""


class RenamedWarning(FutureWarning):
    """A file or a flag uses an old name."""


def renamed(
    name: str | None = None,
    *,
    values: Mapping[str, str] | None = None,
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declares a dataclass field whose name or values have changed.

    Args:
        name: the old name of the field; None if it has not changed.
        values: the new value for each old one.
    """
    return dataclasses.field(
        default=default, metadata={OLD_NAME: name, OLD_VALUES: dict(values or {})}
    )


def with_new_names(cls: type, values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns `values` with the old names and values of the fields of `cls` replaced.

    Args:
        path: prefix of the keys in messages, such as "model".

    Raises:
        UserError: a field is given under both names.
    """
    found = dict(values)
    prefix = f"{path}." if path else ""
    for field in dataclasses.fields(cls):
        old = field.metadata.get(OLD_NAME)
        if old is not None and old in found:
            if field.name in found:
                raise UserError(f"{prefix}{old} is the old name of {field.name}; give only one")
            found[field.name] = found.pop(old)
            warn(f"{prefix}{old}", f"{prefix}{field.name}")
        value, new = found.get(field.name), field.metadata.get(OLD_VALUES, {})
        if isinstance(value, str) and value in new:
            found[field.name] = new[value]
            warn(f"{prefix}{field.name}={value!r}", repr(new[value]))
    return found


def with_old_keys(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with the keys of OLD_KEYS under their old names too."""
    old = {OLD_KEYS[key]: value for key, value in entries.items() if key in OLD_KEYS}
    return {**entries, **old}


def without_old_keys(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with new keys alone, whichever of the two names it uses."""
    old = {new: entries[key] for new, key in OLD_KEYS.items() if key in entries}
    rest = {key: value for key, value in entries.items() if key not in OLD_KEYS.values()}
    return old | rest


def warn(old: str, new: str) -> None:
    """Warns that `old` is now called `new`; Python shows each text once."""
    warnings.warn(f"{old} is now called {new}", RenamedWarning, stacklevel=3)
