"""Reading config files: where they are found, `--config.SECTION.KEY=VALUE` flags, defaults."""

import importlib.resources
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from ml_collections import ConfigDict

from unclip_jax.cli.common import Command
from unclip_jax.cli.completion import ConfigFile
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import whole_file
from unclip_jax.core.suggest import closest, did_you_mean

PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a command that leaves --config.… flags to `read_config`."""


class PassThrough(click.Command):
    """A command with PASS_THROUGH; a required option that is misspelled is not just missing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options; if a required one is missing, names the flag that may be meant."""
        given = [arg.partition("=")[0] for arg in args if arg.startswith("--") and arg != "--"]
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            missing = error.param.opts if error.param is not None else []
            known = {name for param in self.get_params(ctx) for name in param.opts}
            for flag in given:
                if flag not in known and "." not in flag and closest(flag, known) in missing:
                    ctx.fail(f"unknown option {flag}; {did_you_mean(flag, known)}")
            raise


def config_option(command: Command) -> Command:
    """Adds --config."""
    return click.option(
        "--config",
        "config_file",
        required=True,
        type=ConfigFile(),
        metavar="FILE[:VARIANT]",
        help="Config file, of this package or your own; see --config.KEY=VALUE above.",
    )(command)


def read_config(config_file: str, flags: Sequence[str]) -> dict[str, Any]:
    """Reads a config file and applies --config.a.b=v flags; returns plain nested dicts.

    Fields that the file omits have their defaults. A flag's value is converted to the type of the
    field, "None" clears an optional one; an unknown key is an error.
    """
    from absl import flags as absl_flags
    from ml_collections import config_flags

    from unclip_jax.core.config_dict import check_key, set_none, split_none, with_new_flags

    name, _, variant = config_file.partition(":")
    path = find_config(name)
    make_configs_importable()
    for flag in flags:
        if flag.startswith("-") and not flag.startswith("--config."):
            raise UserError(f"unknown option {flag}; {_remedy(flag)}")
    values = absl_flags.FlagValues()
    try:
        loaded = _complete(_run_file(path, variant))
        settings, none = split_none(with_new_flags(flags, _sections(loaded)))
        for flag in settings:
            check_key(loaded.to_dict(), flag.partition("=")[0].split(".")[1:])
        argv = ["unclip train", *settings]
        config_flags.DEFINE_config_dict("config", loaded, flag_values=values, sys_argv=argv)
        rest = values(argv)
        config = values.config.to_dict()
        for keys in none:
            set_none(config, keys)
    except (absl_flags.Error, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{config_file}: {_complaint(error, flags)}") from error
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of a config file raises
        raise UserError(
            f"{config_file} is not a config: {type(error).__name__}: {error}"
        ) from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}; write --config.KEY=VALUE")
    return config


def _remedy(flag: str) -> str:
    """Suggests what a misspelled option of the running command may have meant."""
    name = flag.partition("=")[0]
    context = click.get_current_context(silent=True)
    options = context.command.params if context is not None else []
    known = ["--config", *(o for p in options for o in p.opts if o.startswith("--"))]
    option, _, key = name.partition(".")
    if key and closest(option, known) == "--config":
        return f"did you mean --config.{key}?"
    return did_you_mean(option, known, otherwise="see --help")


def _run_file(path: Path, variant: str) -> ConfigDict:
    """Returns the result of a config file's `get_config`."""
    spec = importlib.util.spec_from_file_location(f"unclip_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise TypeError("it has no function get_config, which returns the ConfigDict")
    config = module.get_config(variant) if variant else module.get_config()
    if not isinstance(config, ConfigDict):
        raise TypeError(f"get_config returns a {type(config).__name__}, not a ConfigDict")
    return config


def _sections(config: ConfigDict) -> dict[str, type]:
    """Returns the dataclass of each section of a config."""
    from unclip_jax.models.stages import STAGES
    from unclip_jax.train.sections import RUN_SECTIONS, section_classes

    stage = config.get("stage")
    return section_classes(stage) if stage in STAGES else RUN_SECTIONS


def _complete(config: ConfigDict) -> ConfigDict:
    """Adds the defaults of all omitted fields, so that a flag can change them."""
    from unclip_jax.core.config_dict import with_defaults
    from unclip_jax.train.sections import NAMES

    with config.unlocked():
        for name, cls in _sections(config).items():
            if config.get(name) is not None:
                with_defaults(config[name], cls)
        for name in NAMES:
            if name not in config:
                config[name] = ""
    return config


def find_config(name: str) -> Path:
    """Finds a config file, relative to the current folder or else in the package."""
    path = Path(name)
    if path.is_file():
        return path
    parts = path.parts[1:] if path.parts[:1] == ("configs",) else path.parts
    if not path.is_absolute():
        shipped = Path(str(importlib.resources.files("unclip_jax"))) / "configs" / Path(*parts)
        for candidate in (shipped, _CHECKOUT / Path(*parts)):
            if candidate.is_file():
                return candidate
    raise UserError(f"no config file {name!r} here or in the package")


def make_configs_importable() -> None:
    """Lets config files import `unclip_jax.configs` in a checkout: that of this package.

    Another checkout may be the one that is installed.
    """
    import unclip_jax

    package = Path(__file__).resolve().parents[1]
    root = str(package.parent)
    if not (package / "configs").is_dir() and root not in unclip_jax.__path__:
        unclip_jax.__path__.append(root)


def changed_config(file: str, base: str, changes: Mapping[str, Any], variant: str) -> ConfigDict:
    """Returns another file's config with changes: what a file of `write_changes` calls.

    Args:
        file: that calls; `base` is relative to its folder, or one of this package.
    """
    from unclip_jax.core.config_dict import with_changes

    near = Path(file).resolve().parent / base
    path = near if near.is_file() else find_config(base)
    return with_changes(_run_file(path, variant), changes)


def write_changes(out: Path, config_file: str, changes: Mapping[str, Any], about: str) -> None:
    """Writes a config file that is another one with changes, whole or not at all.

    Args:
        config_file: FILE[:VARIANT].
        about: a line about the changes.
    """
    name, _, variant = config_file.partition(":")
    path = find_config(name).resolve()
    shipped = (Path(__file__).resolve().parents[1] / "configs", _CHECKOUT)
    base = os.path.relpath(path, out.absolute().parent)
    for folder in shipped:
        if path.is_relative_to(folder):
            base = f"configs/{path.relative_to(folder)}"
    lines = "".join(f"    {key!r}: {value!r},\n" for key, value in changes.items())
    text = _CHANGED.format(about=about, base=base, lines=lines, variant=variant)
    with whole_file(out) as part:
        part.write_text(text, encoding="utf-8")


_CHECKOUT = Path(__file__).resolve().parents[2] / "configs"

_CHANGED = '''"""{about}"""

from ml_collections import ConfigDict

from unclip_jax.cli.config_files import changed_config

BASE = {base!r}
CHANGES = {{
{lines}}}


def get_config(variant: str = {variant!r}) -> ConfigDict:
    """Returns BASE with CHANGES; variants are those of BASE."""
    return changed_config(__file__, BASE, CHANGES, variant)
'''


def _complaint(error: BaseException, flags: Sequence[str]) -> str:
    cause = error.args[0] if error.args else type(error).__name__
    if isinstance(cause, KeyError) and cause.args:  # ml_collections: the key, maybe with a guess
        key, _, guess = str(cause.args[0]).partition("\n")
        paths = [flag.lstrip("-").partition("=")[0] for flag in flags]
        full = [path for path in paths if key.strip("'") in path.split(".")]
        return f"unknown key {full[0] if full else key}. {guess}"
    text = str(cause)
    if "Traceback (most recent call last)" in text:  # raised by the config file: its last line
        return text.strip().splitlines()[-1].strip()
    return text
