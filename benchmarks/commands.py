"""What the benchmarks' commands have in common."""

from typing import Any

import click

from unclip_jax.core.errors import UserError

COUNT = click.IntRange(min=1)
"""Type of an option that counts images, calls or steps."""


class Benchmark(click.Command):
    """A command whose bad input is one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise click.UsageError(str(error), ctx) from error
