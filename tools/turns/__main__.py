"""`python -m tools.turns`: trains a family in short turns on a machine without a network.

pack (here), run (there), take (here), and again, until status says that all is finished; then
bundle. See docs/turns.md.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NoReturn

from tools.turns import pack, pieces, state
from tools.turns.clock import Clock
from unclip_jax.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the complaint and exits with 2."""
        self.exit(2, f"turns: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def parser() -> Parser:
    """Returns the parser of all commands."""
    top = Parser("python -m tools.turns", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    here = commands.add_parser("pack", help="write the parts that travel")
    here.add_argument("--plan", type=Path, required=True, help="plan of the family, JSON")
    here.add_argument("--out", type=Path, required=True, help="folder of the turns")
    here.add_argument("--size", type=int, default=96, help="side of the images in pixels [96]")
    here.add_argument("--part-mib", type=float, default=36.0, help="most MiB of a part [36]")
    here.add_argument("--python", default="3.12", help="Python of the other machine [3.12]")
    here.add_argument("--wheels", choices=("download", "none"), default="download")
    there = commands.add_parser("run", help="train for a turn, on the other machine")
    there.add_argument("turn", type=Path, help="folder with the parts")
    there.add_argument("--minutes", type=float, required=True, help="length of the turn")
    there.add_argument("--out", type=Path, required=True, help="folder for what is brought back")
    there.add_argument(
        "--reserve", type=float, default=60.0, help="seconds for saving and export at the end [60]"
    )
    there.add_argument(
        "--least", type=float, default=60.0, help="seconds without which no stage is begun [60]"
    )
    there.add_argument("--file-mib", type=float, default=15.0, help="most MiB of a file [15]")
    back = commands.add_parser("take", help="take what a turn brought back")
    back.add_argument("out", type=Path, help="folder that run wrote")
    back.add_argument("--turn", type=Path, required=True, help="folder of the turns")
    far = commands.add_parser("status", help="say how far the family is")
    far.add_argument("turn", type=Path, help="folder of the turns")
    whole = commands.add_parser("bundle", help="join the stages' bundles")
    whole.add_argument("turn", type=Path, help="folder of the turns")
    whole.add_argument("stages", nargs="+", help="names of stages in the plan, the CLIP's too")
    whole.add_argument("--out", type=Path, required=True, help="bundle to write")
    whole.add_argument(
        "--add", action="append", default=[], metavar="BUNDLE:STAGE", help="a stage of another"
    )
    whole.add_argument(
        "--metrics", action="append", default=[], type=Path, help="report of unclip eval"
    )
    whole.add_argument("--notes", type=Path, help="Markdown for the top of the model card")
    whole.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    return top


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def do(args: argparse.Namespace) -> int:
    """Runs a command; returns its exit code."""
    for name in ("size", "part_mib", "minutes", "file_mib"):
        if getattr(args, name, 1) <= 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0")
    if args.command == "pack":
        python = args.python if args.wheels == "download" else None
        count = pack.pack(
            args.plan, args.out, size=args.size, part_mib=args.part_mib, python=python
        )
        for path in pieces.parts_of(args.out):
            size = sum(file.stat().st_size for file in path.iterdir())
            say(f"{path}  {path.name[4:]} of {count}  {size / 2**20:.1f} MiB")
    elif args.command == "run":
        return do_run(args)
    elif args.command == "bundle":
        from tools.turns import bundles

        job = pack.read_job(args.turn)
        known = [step.name for step in job.plan.steps if step.is_training]
        for name in args.stages:
            if name not in known:
                raise UserError(f"{name!r} is no stage of the plan; there are {', '.join(known)}")
        sources = [args.turn / pack.RESULTS / name for name in args.stages]
        stages = bundles.write_family(
            sources,
            args.out,
            others=args.add,
            metrics=args.metrics,
            notes=args.notes.read_text(encoding="utf-8") if args.notes else "",
            overwrite=args.overwrite,
        )
        say(f"{args.out}  {', '.join(stages)}")
    else:
        show(args)
    return 0


def do_run(args: argparse.Namespace) -> int:
    """Runs a turn; returns 0, or 1 if a stage failed."""
    from tools.turns import turn

    if not 0 < args.reserve < 60.0 * args.minutes:
        raise UserError("--reserve must be above 0 and shorter than --minutes")
    clock = Clock(time.monotonic() + 60.0 * args.minutes, args.reserve)
    options = {"file_mib": args.file_mib, "least": args.least, "say": say}
    return 0 if turn.run_turn(args.turn, args.out, clock, **options) else 1


def show(args: argparse.Namespace) -> None:
    """Takes what came back, or not, and says how far the family is."""
    from tools.turns.take import take

    if args.command == "take":
        found, is_new = take(args.out, args.turn)
        say(f"{args.out}: {'taken' if is_new else 'was taken before; nothing to do'}")
    else:
        found = state.read_state(args.turn / pack.RESULTS / state.STATE)
    for line in state.lines(pack.read_job(args.turn).plan, found):
        say(line)


def main(words: list[str] | None = None) -> int:
    """Runs the command line; what the user can fix is one line and exit code 2."""
    try:
        return do(parser().parse_args(words))
    except UserError as error:
        sys.stderr.write(f"turns: error: {error}\n")
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"turns: error: {named}{error.strerror or error}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
