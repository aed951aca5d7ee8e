"""Times 3 x 3 convolutions on a CPU: XLA's against patches times a matrix and Winograd's tiles.

    python benchmarks/convolutions.py --sides 8,16 --channels 128,640,1280 --repeats 5

They take turns in one process. Prints GFLOP per second of wall and of CPU time (on a busy machine,
read the latter), forward and, with --grad, of both gradients. The limits in nn/convolution.py are
chosen by it.
"""

import itertools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
from commands import COUNT, Benchmark
from jaxtyping import Array
from turns import environment, limit_threads

from unclip_jax.nn.convolution import by_patches, by_tiles, by_windows

WAYS = {"XLA's convolution": by_windows, "patches": by_patches, "tiles": by_tiles}


def compiled(way: Callable[[Array, Array], Array], grad: bool) -> Callable[..., Any]:
    """Returns the convolution, or its value and both gradients, as a compiled function."""
    if not grad:
        return jax.jit(way)

    def gradients(x: Array, kernel: Array) -> Any:
        y, back = jax.vjp(way, x, kernel)
        return back(y)

    return jax.jit(gradients)


def rates(
    ways: dict[str, Callable[..., Any]], x: Array, kernel: Array, count: int, repeats: int
) -> dict[str, tuple[float, float]]:
    """Returns median operations per second of wall and CPU time, each way `count` times a turn."""
    b, h, w, c = x.shape
    flops = 2 * 9 * b * h * w * c * kernel.shape[-1] * count
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for function in ways.values():
        jax.block_until_ready(function(x, kernel))
    for _, (name, function) in itertools.product(range(repeats), ways.items()):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            jax.block_until_ready(function(x, kernel))
        spent = time.perf_counter() - wall, time.process_time() - cpu
        found[name].append((flops / spent[0], flops / spent[1]))
    return {
        name: (statistics.median(r[0] for r in rows), statistics.median(r[1] for r in rows))
        for name, rows in found.items()
    }


def whole_numbers(context: click.Context, option: click.Option, value: str) -> list[int]:
    """Reads "8,16"."""
    return [int(number) for number in value.split(",")]


@click.command(cls=Benchmark)
@click.option("--sides", default="4,8,16", show_default=True, callback=whole_numbers)
@click.option("--channels", default="128,320,640,1280", show_default=True, callback=whole_numbers)
@click.option("--batches", default="1,2,16", show_default=True, callback=whole_numbers)
@click.option("--grad", is_flag=True, help="Forward and both gradients; rates are of three passes.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--threads", default=os.cpu_count(), show_default=True, type=COUNT, help="Cores.")
@click.option("--repeats", default=5, show_default=True, type=COUNT)
def main(sides: list[int], channels: list[int], batches: list[int], **options: Any) -> None:
    """Prints a table of all ways over all sizes."""
    threads, grad = limit_threads(options["threads"]), options["grad"]
    click.echo(f"{environment(threads, ('jax',))}, {options['dtype']}\n")
    click.echo("| batch, pixels, channels | " + " | ".join(f"{way}, wall, CPU" for way in WAYS))
    ways = {name: compiled(way, grad) for name, way in WAYS.items()}
    rng, passes = np.random.default_rng(0), 3 if grad else 1
    for side, width, batch in itertools.product(sides, channels, batches):
        x = jnp.asarray(rng.normal(size=(batch, side, side, width)), options["dtype"])
        kernel = jnp.asarray(rng.normal(size=(3, 3, width, width)) / 100, options["dtype"])
        count = max(1, int(4e9 / (18 * batch * side**2 * width**2 * passes)))
        found = rates(ways, x, kernel, count, options["repeats"])
        cells = [f"{passes * r / 1e9:.0f}, {passes * c / 1e9:.0f}" for r, c in found.values()]
        click.echo(f"| {batch} x {side} x {side}, {width} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
