"""Times the stages of sampling: the first call, which compiles, and the median of later ones.

    python benchmarks/sample.py --model emoji --num 4 --repeats 3

The compile cache is off unless `--cache` names a folder, so that the first call is a cold one.
"""

import json
import os
import platform
import statistics
import time
from typing import Any

import click
import jax
from commands import COUNT, Benchmark

from unclip_jax import api
from unclip_jax.core.prng import root_key
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.pipeline import generate, requests_for
from unclip_jax.sampling.settings import SampleSettings, resolve


def timed_run(model: Any, prompt: str, num: int, settings: SampleSettings) -> dict[str, float]:
    """Samples `num` images and returns the wall-clock seconds of each stage and in total."""
    monitor = Monitor()
    start = time.perf_counter()
    plan = resolve(model, settings)
    for _ in generate(model, requests_for([prompt], num), root_key(0), plan, monitor):
        pass
    return monitor.seconds | {"total": time.perf_counter() - start}


def environment() -> dict[str, Any]:
    """Returns the machine, its load and the versions."""
    device = jax.local_devices()[0]
    return {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform} {device.device_kind} x{jax.local_device_count()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load": round(os.getloadavg()[0], 2),
    }


@click.command(cls=Benchmark)
@click.option("--model", default="emoji", show_default=True)
@click.option("--prompt", default="a red heart", show_default=True)
@click.option("--num", default=4, show_default=True, type=COUNT, help="Images a call.")
@click.option("--size", type=int, help="Pixels; default: the bundle's.")
@click.option("--steps", type=int, help="Decoder steps; default: the bundle's.")
@click.option("--dtype", default="float32", show_default=True)
@click.option(
    "--repeats", default=3, show_default=True, type=COUNT, help="Warm calls; the median is given."
)
@click.option("--cache", help="Compile cache to use; default: none.")
@click.option("--json", "as_json", is_flag=True)
def main(model: str, prompt: str, num: int, repeats: int, as_json: bool, **options: Any) -> None:
    """Prints seconds per stage, cold and warm, with the machine they were measured on."""
    jax.config.update("jax_compilation_cache_dir", options["cache"])
    start = time.perf_counter()
    bundle = api.load(model)
    load = time.perf_counter() - start
    settings = SampleSettings(**{k: options[k] for k in ("size", "steps", "dtype")})
    cold = timed_run(bundle, prompt, num, settings)
    warm = [timed_run(bundle, prompt, num, settings) for _ in range(repeats)]
    median = {name: statistics.median(run[name] for run in warm) for name in cold}
    plan = resolve(bundle, settings).to_json()
    if as_json:
        result = {"load": load, "cold": cold, "warm": median, "settings": plan}
        click.echo(json.dumps(result | {"num": num, "environment": environment()}))
        return
    click.echo(f"{num} images, {plan}")
    click.echo(f"{environment()}")
    click.echo(
        f"load {load:.2f} s\n\n| stage | first call, s | median of {repeats}, s |\n|---|---|---|"
    )
    for name, seconds in cold.items():
        click.echo(f"| {name} | {seconds:.2f} | {median[name]:.2f} |")


if __name__ == "__main__":
    main()
