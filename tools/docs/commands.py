"""The page of commands: what `--help` of each of them prints."""

import contextlib
import io
from collections.abc import Iterator

import click

from unclip_jax.cli.main import unclip

WIDTH = 96
INTRO = """# Commands

`unclip` and `python -m unclip_jax` are the same. Results go to stdout, progress to stderr. An error
that you can fix is one line with exit code 2. `--json` prints one JSON object in place of text.
`--quiet` leaves out progress and notes.
"""


def page() -> str:
    """Returns the Markdown: a heading and the help text for each command."""
    parts = [INTRO, _block(["--help"])]
    for words in command_names(unclip):
        parts += [f"## unclip {' '.join(words)}\n", _block([*words, "--help"])]
    return "\n".join(parts)


def command_names(group: click.Group) -> Iterator[list[str]]:
    """Yields each command's words, those of its subcommands after it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield [name]
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ([name, *words] for words in command_names(command))


def _block(args: list[str]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        unclip.main(args, prog_name="unclip", standalone_mode=False, terminal_width=WIDTH)
    return f"```text\n{text.getvalue().rstrip()}\n```\n"
