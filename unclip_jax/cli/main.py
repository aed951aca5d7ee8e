"""The `unclip` command: a group that imports its subcommands only to run them.

Whatever the user can fix ends as one line on stderr, `unclip: error: …`, with exit code 2.
"""

import contextlib
import functools
import importlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import click
from click.shell_completion import CompletionItem

from unclip_jax.cli.completion import VARIABLE
from unclip_jax.cli.progress import say
from unclip_jax.core import interrupts
from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.renamed import RenamedWarning
from unclip_jax.core.suggest import did_you_mean

COMMANDS = {
    "sample": ("unclip_jax.cli.sample:sample", "Generate images from captions."),
    "vary": ("unclip_jax.cli.vary:vary", "Draw variations of an image."),
    "interpolate": ("unclip_jax.cli.interpolate:interpolate", "Interpolate between two images."),
    "mix": ("unclip_jax.cli.mix:mix", "Mix captions and images by weight."),
    "edit": ("unclip_jax.cli.edit:edit", "Edit an image toward a text."),
    "inpaint": ("unclip_jax.cli.inpaint:inpaint", "Fill a masked part of an image."),
    "reconstruct": (
        "unclip_jax.cli.reconstruct:reconstruct",
        "Reconstruct an image from PCA components of its embedding.",
    ),
    "classify": ("unclip_jax.cli.classify:classify", "Classify an image with CLIP, zero-shot."),
    "train": ("unclip_jax.cli.train:train", "Train one stage; run again to resume."),
    "data": ("unclip_jax.cli.data:data", "Prepare, ingest and show data sets."),
    "embed": ("unclip_jax.cli.embed:embed", "Embed a data set with CLIP."),
    "export": ("unclip_jax.cli.export:export", "Export finished training runs to a bundle."),
    "import": (
        "unclip_jax.cli.import_weights:import_weights",
        "Import public CLIP or Karlo weights.",
    ),
    "eval": ("unclip_jax.cli.evaluate:evaluate", "Measure a bundle on a data set."),
    "plan": ("unclip_jax.cli.plan:plan", "Estimate the cost of a training."),
    "demo": ("unclip_jax.cli.demo:demo", "Serve a web page to sample with."),
    "info": ("unclip_jax.cli.info:info", "Show the contents of a bundle."),
    "completion": (
        "unclip_jax.cli.completion:completion",
        "Print the completion script of a shell.",
    ),
}

PATIENCE = 2.0  # seconds until the listening thread acts on a signal itself
_ending = threading.RLock()  # acquired once, by the thread that ends the process


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Lists the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports the named command."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        from unclip_jax.cli.common import with_quiet

        return with_quiet(getattr(importlib.import_module(module), attribute))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses what stands before the command; an option of commands is told its place."""
        command = next((word for word in args if word in COMMANDS), None)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if command is None:
                raise
            ctx.fail(
                f"{error.option_name} goes after the command: unclip {command} {error.option_name}"
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds a command; for an unknown one the message names the nearest."""
        name = args[0]
        is_option = name.startswith("-")
        if name not in COMMANDS and not is_option and not ctx.resilient_parsing:
            hint = did_you_mean(name, COMMANDS, otherwise=f"there are {', '.join(COMMANDS)}")
            ctx.fail(f"no command {shorten(name, 40)!r}; {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes the names of commands without importing them, and the options."""
        items = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    no_args_is_help=False,  # else a bare `unclip` fails with the whole help as its message
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="unclip_jax")
def unclip() -> None:
    """DALL-E 2 (unCLIP) in JAX: sampling, image manipulation, training and evaluation.

    Example: unclip sample "a red heart" --num 4
    """


def one_line(error: click.ClickException) -> str:
    """Returns click's message on one line, with the command to ask for help."""
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    return " ".join(error.format_message().split()) + hint


def own_signals() -> None:
    """Makes SIGTERM and Ctrl-C remove unfinished files and end the process, with 143 or 130.

    No exception is raised: inside a callback of JAX it would be lost, and the interpreter may crash
    if it shuts down while a device computes. A signal that is ignored stays ignored.

    Python runs a handler only between its own instructions, and a compilation may take minutes to
    return to them. A thread therefore listens too, and acts if the handler has not run.
    """
    end = functools.partial(_end, os.getpid())
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_listen, args=(reader, end), name="signals", daemon=True).start()


def _listen(reader: int, end: Callable[[int, Any], None]) -> None:
    """Calls `end` for a signal if it is still the signal's handler and has not been called.

    A training installs its own handler, which saves a checkpoint.
    """
    while number := int.from_bytes(os.read(reader, 1)):
        if number in (signal.SIGTERM, signal.SIGINT) and signal.getsignal(number) is end:
            time.sleep(PATIENCE)
            if signal.getsignal(number) is end:
                end(number, None)


def _end(owner: int, number: int, frame: FrameType | None) -> None:
    if os.getpid() != owner:  # a forked process inherits the handler, but owns no files
        os._exit(128 + number)
    if not _ending.acquire(blocking=False):  # by the other thread, which ends the process
        threading.Event().wait()
    for other in (signal.SIGTERM, signal.SIGINT):  # a second one must not stop the cleaning up
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(other, signal.SIG_IGN)
    interrupts.clear_all()
    with contextlib.suppress(OSError):
        os.write(2, b"\nunclip: interrupted\n")
    os._exit(128 + number)


def main(args: list[str] | None = None) -> Any:
    """Runs the command line and exits with its code.

    Args:
        args: None for those of the process, whose signals are then handled too.
    """
    if args is None:
        own_signals()
        show_renames_in_one_line()
    try:
        code = unclip.main(args, prog_name="unclip", standalone_mode=False, complete_var=VARIABLE)
    except click.ClickException as error:
        fail(one_line(error))
    except UserError as error:
        fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        click.echo("unclip: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        fail(f"{named}{error.strerror or error}")
    sys.exit(code if isinstance(code, int) else 0)


def show_renames_in_one_line() -> None:
    """Prints warnings of old names as a line on stderr, without the place in the code."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, RenamedWarning):
            say(str(message))
        else:
            usual(message, category, *place, **options)

    warnings.showwarning = show


def fail(message: str) -> None:
    """Prints one line on stderr and exits with code 2."""
    click.echo(f"unclip: error: {message}", err=True)
    sys.exit(2)
