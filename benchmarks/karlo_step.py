"""Times one denoising step of Karlo's networks: ours against diffusers, taking turns in one run.

    python benchmarks/karlo_step.py --stages prior,decoder --threads 2 --repeats 3
    python benchmarks/karlo_step.py --tiny            # checks that everything runs, in a minute

A step is what sampling does between two noise levels: the network on the guidance pair (the
upsampler has none), guidance, clipping and the sampler's update. Both sides have random weights and
one process each, so that each has its own peak of memory; only one of them works at a time. Needs
torch and diffusers, the `parity` extra.
"""

import json
import os
from typing import Any

import click
from commands import COUNT, Benchmark
from karlo_sides import Setup, our_step, their_step
from turns import Maker, compare, environment, limit_threads

PACKAGES = ("jax", "flax", "torch", "diffusers")
STAGES = ("prior", "decoder", "super_res_first")
SIDES = {"ours": "unclip_jax", "eager": "diffusers", "compiled": "diffusers, torch.compile"}


def makers(setup: Setup, sides: tuple[str, ...]) -> dict[str, Maker]:
    """Returns the functions that make each side's step."""
    found: dict[str, Maker] = {"ours": (our_step, (setup,))}
    found |= {side: (their_step, (setup, side == "compiled")) for side in sides if side != "ours"}
    return {side: found[side] for side in sides}


@click.command(cls=Benchmark)
@click.option("--stages", default=",".join(STAGES), show_default=True)
@click.option("--batch", default=2, show_default=True, help="Rows of a guided call: a pair each.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option(
    "--threads", default=os.cpu_count(), show_default=True, type=COUNT, help="Cores for each side."
)
@click.option(
    "--repeats", default=3, show_default=True, type=COUNT, help="Steps after the first; the median."
)
@click.option("--tiny", is_flag=True, help="Toy sizes, to check that it runs.")
@click.option("--compile", "compiled", is_flag=True, help="Adds diffusers under torch.compile.")
@click.option("--json", "as_json", is_flag=True)
def main(
    stages: str, batch: int, threads: int, repeats: int, as_json: bool, **options: Any
) -> None:
    """Prints seconds per denoising step for each stage and side, with their ratio and memory."""
    names = stages.split(",")
    if batch < 2 or batch % 2 or not set(names) <= set(STAGES):
        raise click.UsageError(f"--batch is even, --stages some of {','.join(STAGES)}")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    threads = limit_threads(threads)
    sides = tuple(side for side in SIDES if side != "compiled" or options["compiled"])
    stated = environment(threads, PACKAGES)
    report = {"environment": stated, "dtype": options["dtype"], "stages": {}}
    for name in names:
        setup = Setup(name, options["tiny"], batch // 2, options["dtype"], threads)
        report["stages"][name] = compare(makers(setup, sides), repeats)
        report["environment"]["load after"] = round(os.getloadavg()[0], 2)
        if not as_json:
            click.echo(f"{name} done", err=True)
    click.echo(json.dumps(report) if as_json else table(report, batch, repeats))


def table(report: dict[str, Any], batch: int, repeats: int) -> str:
    """Returns the report as Markdown; a ratio above 1 means that ours is faster."""
    lines = [f"{report['environment']}, {report['dtype']}", ""]
    lines += [
        f"| stage | rows | side | device | first call, s | median of {repeats}, s | to ours "
        "| CPU, s | to ours | peak RSS, GiB | GPU, GiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, sides in report["stages"].items():
        rows = batch // 2 if name == "super_res_first" else batch
        for side, got in sides.items():
            wall, cpu = (got[kind] / sides["ours"][kind] for kind in ("wall", "cpu"))
            gpu = "-" if got["gpu_gib"] is None else f"{got['gpu_gib']:.2f}"
            lines.append(
                f"| {name} | {rows} | {SIDES[side]} | {got['device']} | {got['first']:.2f} "
                f"| {got['wall']:.3f} | {wall:.2f} | {got['cpu']:.3f} | {cpu:.2f} "
                f"| {got['rss_gib']:.2f} | {gpu} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
