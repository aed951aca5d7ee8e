"""`unclip completion`: scripts by which a shell completes what is typed, and what they complete.

The scripts are click's own. They run `unclip` with `_UNCLIP_COMPLETE` set, and click answers with
what may follow. Nothing here imports jax: an answer is due within the time of a key press.
"""

import os
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

VARIABLE = "_UNCLIP_COMPLETE"
PACKAGE = Path(__file__).resolve().parents[1]
BUNDLES = PACKAGE / "bundles"
CONFIGS = (PACKAGE / "configs", PACKAGE.parent / "configs")  # installed, or in a checkout


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: commands, options, models, configs, files.

    For bash or zsh, put the line below into ~/.bashrc or ~/.zshrc, with the name of the shell. For
    fish, write the script to ~/.config/fish/completions/unclip.fish.

    Example: eval "$(unclip completion bash)"
    """
    script = get_completion_class(shell)
    click.echo(script(ctx.find_root().command, {}, "unclip", VARIABLE).source())


@add_completion_class
class Bash(BashComplete):
    """Completion for bash, which hands over `--config=FILE:smoke` as five words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Returns the words before the one to complete, and that one; "=" alone is left out."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        current = int(os.environ["COMP_CWORD"])
        incomplete = words[current] if current < len(words) else ""
        return [word for word in words[1:current] if word != "="], incomplete


class Model(click.ParamType):
    """A bundle: the name of a shipped one, or a folder."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offers the shipped bundles, and folders where none of them fits."""
        found = sorted(path.parent.name for path in BUNDLES.glob("*/bundle.json"))
        names = [CompletionItem(name) for name in found if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="dir"), *names]


class ConfigFile(click.ParamType):
    """A config file, of the current folder or shipped."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offers files, and the shipped configs where there is no folder of that name."""
        files = [CompletionItem(incomplete, type="file")]
        if Path("configs").is_dir():
            return files
        folder = next((path for path in CONFIGS if path.is_dir()), CONFIGS[0])
        paths = (path.relative_to(folder) for path in sorted(folder.glob("*/*.py")))
        names = [f"configs/{path.as_posix()}" for path in paths if path.name != "__init__.py"]
        return files + [CompletionItem(name) for name in names if name.startswith(incomplete)]


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offers files, for a parameter that is not only a path."""
    return [CompletionItem(incomplete, type="file")]
