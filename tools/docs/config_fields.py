"""The page of config fields, from the dataclasses that configs are built into."""

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

INTRO = """# Config fields

A config file returns a nested `ConfigDict`. Every field can be set on the command line as
`--config.SECTION.FIELD=VALUE`, for `unclip train` and `unclip plan` alike. A field without a
default must be set by the config file.
"""
ENTRY = re.compile(r"^    (?P<names>\w+(?:, \w+)*): (?P<text>.+)$")


def page() -> str:
    """Returns the Markdown: a table for each dataclass, with the places where it is used."""
    used: dict[type, list[str]] = {}
    for place, cls in sections():
        for path, nested in walk(place, cls):
            used.setdefault(nested, []).append(path)
    return INTRO + _top_level() + "".join(_table(cls, places) for cls, places in used.items())


def sections() -> Iterator[tuple[str, type]]:
    """Yields each section of a config as ("section" or "section (stage)", dataclass)."""
    from unclip_jax.data.config import DataConfig
    from unclip_jax.diffusion.config import DiffusionConfig
    from unclip_jax.models.embedding_norm import EmbeddingNorm
    from unclip_jax.models.stages import STAGES
    from unclip_jax.train.config import EvalConfig, OptimConfig, TrainConfig

    yield from (("data", DataConfig), ("optim", OptimConfig))
    yield from (("train", TrainConfig), ("eval", EvalConfig))
    yield from (("diffusion", DiffusionConfig), ("embedding_norm", EmbeddingNorm))
    for stage, row in STAGES.items():
        yield f"model ({stage})", row.config
    for stage, row in STAGES.items():
        if row.sampling is not None:
            yield f"sampling ({stage})", row.sampling


def field_texts(cls: type) -> dict[str, str]:
    """Returns what is said of each field: in `Attributes:`, else in the comment on its line."""
    said = {}
    names: list[str] = []
    body = inspect.getdoc(cls) or ""
    for line in body.partition("Attributes:\n")[2].splitlines():
        match = ENTRY.match(line)
        if match:
            names = match["names"].split(", ")
            said.update(dict.fromkeys(names, match["text"]))
        elif line.startswith("     "):
            said.update({name: f"{said[name]} {line.strip()}" for name in names})
        else:
            names = []
    return _comments(cls) | said


def _comments(cls: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    found = re.findall(r"^    (\w+): [^#\n]*#\s+(.+)$", source, re.M)
    return dict(found)


def walk(path: str, cls: type) -> Iterator[tuple[str, type]]:
    """Yields a dataclass and those inside it, each with its place in a config."""
    yield path, cls
    name, _, stage = path.partition(" ")
    for field, hint in typing.get_type_hints(cls).items():
        nested = _dataclass_in(hint)
        if nested is not None:
            yield from walk(f"{name}.{field} {stage}".strip(), nested)


def _dataclass_in(hint: Any) -> type | None:
    choices = [hint, *typing.get_args(hint)]
    return next((choice for choice in choices if dataclasses.is_dataclass(choice)), None)


def _table(cls: type, places: list[str]) -> str:
    hints, texts = typing.get_type_hints(cls), field_texts(cls)
    about = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
    lines = [f"\n## {cls.__name__}\n", about + "\n", f"Sections: {_places(places)}.\n"]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        cells = (f"`{field.name}`", _type(hints[field.name]), _default(field))
        meaning = texts.get(field.name, "")
        lines.append(" | ".join(("", *cells, meaning.replace("|", "\\|"), "")).strip())
    return "\n".join(lines) + "\n"


def _places(places: list[str]) -> str:
    by_section: dict[str, list[str]] = {}
    for place in places:
        section, _, stage = place.partition(" ")
        by_section.setdefault(section, []).append(stage.strip("()"))
    parts = []
    for section, stages in by_section.items():
        named = ", ".join(f"`{stage}`" for stage in stages if stage)
        parts.append(f"`{section}`" + (f" of {named}" if named else ""))
    return "; ".join(parts)


def _type(hint: Any) -> str:
    if _dataclass_in(hint) is not None:
        nested = _dataclass_in(hint)
        return f"[{nested.__name__}](#{nested.__name__.lower()})"
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f'`"{value}"`' for value in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(arg) for arg in args)
    if hint is type(None):
        return "None"
    if origin is tuple:
        return f"tuple of {args[0].__name__}"
    return getattr(hint, "__name__", str(hint))


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "–" if field.default_factory is dataclasses.MISSING else "empty"
    if dataclasses.is_dataclass(field.default):
        return "its own"
    return f"`{field.default!r}`"


def _top_level() -> str:
    rows = {
        "seed": "seed of initialization, data order, noise and drops",
        "stage": "the stage to train: one of the models below",
        "clip": "bundle with the frozen CLIP: a folder or a shipped name",
        "dvae": "bundle with the discrete VAE that `dalle` is trained on",
        "pca": "`pca.safetensors` for the codec of an autoregressive prior",
        "init_from": "bundle to fine-tune from",
    }
    table = "".join(f"| `{name}` | {text} |\n" for name, text in rows.items())
    return f"\n## Top level\n\n| field | meaning |\n|---|---|\n{table}"
