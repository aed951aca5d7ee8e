"""The `unclip` command: a group whose subcommands are imported when they are asked for.

Whatever a person can put right ends as one line on stderr, `unclip: error: …`, with exit code 2.
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
from typing import Any

import click

from unclip_jax.core import interrupts
from unclip_jax.core.errors import UserError
from unclip_jax.core.renamed import RenamedWarning

COMMANDS = {
    "sample": ("unclip_jax.cli.sample:sample", "Text to image."),
    "vary": ("unclip_jax.cli.vary:vary", "Variations of a picture."),
    "interpolate": ("unclip_jax.cli.interpolate:interpolate", "From one picture to another."),
    "edit": ("unclip_jax.cli.edit:edit", "A picture moved toward a text."),
    "inpaint": ("unclip_jax.cli.inpaint:inpaint", "Fills a part of a picture from a caption."),
    "reconstruct": (
        "unclip_jax.cli.reconstruct:reconstruct",
        "A picture from the first components of its embedding.",
    ),
    "classify": ("unclip_jax.cli.classify:classify", "CLIP zero-shot probabilities of labels."),
    "train": ("unclip_jax.cli.train:train", "Trains one stage; the same command resumes."),
    "data": ("unclip_jax.cli.data:data", "Prepares and shows data sets."),
    "embed": ("unclip_jax.cli.embed:embed", "CLIP embeddings of a data set."),
    "export": ("unclip_jax.cli.export:export", "Finished training runs to a bundle."),
    "import": (
        "unclip_jax.cli.import_weights:import_weights",
        "Public CLIP and Karlo weights to a bundle.",
    ),
    "eval": ("unclip_jax.cli.evaluate:evaluate", "Metrics of a bundle."),
    "plan": ("unclip_jax.cli.plan:plan", "Cost of a training, before paying."),
    "info": ("unclip_jax.cli.info:info", "What a bundle holds."),
}

PATIENCE = 2.0  # seconds until the listening thread acts on a signal itself
_ending = threading.RLock()  # taken once and for ever by the thread that ends the process


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Lists the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports the named command."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

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
    """DALL-E 2 (unCLIP) in JAX: text to image and what surrounds it.

    Example: unclip sample "a red heart" --num 4
    """


def one_line(error: click.ClickException) -> str:
    """Returns click's message on one line, with the command it belongs to."""
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    return " ".join(error.format_message().split()) + hint


def own_signals() -> None:
    """Makes SIGTERM and Ctrl-C remove unfinished files and end the process, with 143 or 130.

    No exception is raised for it: one that meets a callback of JAX's is lost, and the interpreter
    may crash if it is taken down while a device computes. A signal that is ignored stays so.

    Python runs a handler only between its own instructions, and a compilation can be minutes
    away from the next one. A thread therefore listens too, and acts if nothing has happened.
    """
    end = functools.partial(_end, os.getpid())
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    listened, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # its signals are its own
    threading.Thread(target=_listen, args=(listened, end), name="signals", daemon=True).start()


def _listen(listened: int, end: Callable[[int, Any], None]) -> None:
    """Ends the process for a signal whose handler is still `end` after a while: nobody called it.

    Where a training saves instead, it has taken the signal over.
    """
    while number := int.from_bytes(os.read(listened, 1)):
        if number in (signal.SIGTERM, signal.SIGINT) and signal.getsignal(number) is end:
            time.sleep(PATIENCE)
            if signal.getsignal(number) is end:
                end(number, None)


def _end(owner: int, number: int, frame: Any) -> None:
    if os.getpid() != owner:  # a forked process inherits the handler; the files are not its own
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
    """Runs the command line and exits with its code; without `args` the process is all its own."""
    if args is None:
        own_signals()
        show_renames_in_one_line()
    try:
        code = unclip.main(args, prog_name="unclip", standalone_mode=False)
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
    """Prints the warning of an old name as a line on stderr, without Python's place in the code."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, RenamedWarning):
            click.echo(f"unclip: {message}", err=True)
        else:
            usual(message, category, *place, **options)

    warnings.showwarning = show


def fail(message: str) -> None:
    """Prints the one line and exits with 2."""
    click.echo(f"unclip: error: {message}", err=True)
    sys.exit(2)
