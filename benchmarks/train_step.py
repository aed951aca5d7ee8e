"""Times training steps: images/s of each stage on the device there is, and against PyTorch.

    python benchmarks/train_step.py                              # every stage of the emoji family
    python benchmarks/train_step.py --config configs/paper/upsampler_256.py --batch 8
    python benchmarks/train_step.py --peer --threads 2           # a U-Net, ours and diffusers'

The step is a run's own: losses, gradients, clipping, Adam, moving average, compiled with the state
donated; batches are random and already on the device. --peer trains one small attention-free U-Net
(noise concatenated to a small picture; the layout that Karlo's upsampler shares with diffusers'
UNet2DModel) on both sides in turns, a process each: forward, backward, clipping by the global norm,
AdamW, moving average. It needs torch and diffusers, the `parity` extra.
"""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import click
from commands import COUNT, Benchmark
from turns import compare, environment, limit_threads

CONFIGS = tuple(
    f"configs/emoji/{stage}.py"
    for stage in ("clip", "prior_diffusion", "prior_ar", "decoder", "upsampler_256")
)


@dataclasses.dataclass(frozen=True)
class Peer:
    """The U-Net that both sides train.

    Attributes:
        size: pixels of a side; the small picture has a quarter.
    """

    batch: int = 8
    size: int = 64
    channels: int = 64
    mult: tuple[int, ...] = (1, 2, 3)
    res_blocks: int = 2
    threads: int = 2
    learning_rate: float = 1e-4
    ema_decay: float = 0.999


def filled(shapes: Any, seed: int = 0) -> Any:
    """Returns random arrays of the given shapes: images, ids, masks that are true, small floats."""
    import jax
    import numpy as np

    rng = np.random.default_rng(seed)

    def one(leaf: Any) -> Any:
        if leaf.dtype == bool:
            return np.ones(leaf.shape, bool)
        if np.issubdtype(leaf.dtype, np.integer):
            return rng.integers(0, 256, leaf.shape).astype(leaf.dtype)
        return (0.02 * rng.standard_normal(leaf.shape, np.float32)).astype(leaf.dtype)

    return jax.device_put(jax.tree.map(one, shapes))


def jit_alone(step: Callable[..., Any]) -> Any:
    """Compiles a training step for the first device, as a run on one device does."""
    import jax

    from unclip_jax.train.step import STEP_OPTIONS

    options = STEP_OPTIONS.get(jax.default_backend())
    return jax.jit(step, donate_argnums=0, compiler_options=options)


def config_step(path: str, batch: int | None, clip: str | None) -> tuple[Callable[[], Any], Any]:
    """Returns the training step of a config, and its program."""
    from unclip_jax.cli.config_files import read_config

    flags = [f"--config.train.batch_size={batch}"] if batch else []
    flags += [f"--config.clip={clip}"] if clip and not path.endswith("clip.py") else []
    program = sections_program(read_config(path, flags))
    return program_step(program), program


def sections_program(sections: Mapping[str, Any]) -> Any:
    """Returns the program of a config's sections, as `unclip plan` makes it."""
    from unclip_jax.plan.estimate import planned_program

    return planned_program(sections)[0]


def program_step(program: Any) -> Callable[[], Any]:
    """Returns the training step of a program, compiled, on random batches."""
    import jax

    from unclip_jax.core.prng import root_key
    from unclip_jax.models.stages import init_variables, unboxed
    from unclip_jax.train.state import jit_once, make_state

    train = program.settings.train
    init = lambda: unboxed(init_variables(program.spec, program.module, root_key(0)))  # noqa: E731
    metrics = len(program.metric_names)
    held = {"state": jit_once(lambda: make_state(init(), program.tx, metrics))()}
    precision = "highest" if train.dtype == "float32" else "default"
    with jax.default_matmul_precision(precision):
        constants, rows = filled(program.constants), filled(program.batch(train.batch_size))
        compiled = jit_alone(program.step()).lower(held["state"], constants, rows).compile()

    def take() -> None:
        held["state"], logged = compiled(held["state"], constants, rows)
        jax.block_until_ready(logged)

    return take


def model_flops(program: Any) -> float:
    """Returns the FLOPs of a step as `unclip plan` counts them: without what is computed again."""
    from unclip_jax.plan.estimate import plan_program

    return plan_program(program).flops_per_step


def time_config(path: str, batch: int | None, clip: str | None, repeats: int) -> dict[str, Any]:
    """Times a config's step; the median after a first call."""
    import jax

    from unclip_jax.core.chips import chip_of
    from unclip_jax.core.trees import count_params

    take, program = config_step(path, batch, clip)
    take()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        take()
        seconds.append(time.perf_counter() - start)
    median, rows = statistics.median(seconds), program.settings.train.batch_size
    flops = model_flops(program)
    device = jax.local_devices()[0]
    chip = chip_of(device.device_kind)
    return {
        "config": path,
        "params": count_params(program.state.params),
        "batch": rows,
        "dtype": program.settings.train.dtype,
        "device": device.device_kind,
        "seconds": median,
        "images_per_second": rows / median,
        "gflops_per_second": flops / median / 1e9,
        "mfu": flops / median / chip.flops if chip else None,
    }


def our_peer(peer: Peer) -> Callable[[], None]:
    """Returns our training step of the peer's U-Net."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from unclip_jax.core.prng import root_key
    from unclip_jax.diffusion.config import DiffusionConfig
    from unclip_jax.models.stages import (
        StageSpec,
        abstract_params,
        init_variables,
        make_module,
        unboxed,
    )
    from unclip_jax.models.unet import UNetConfig
    from unclip_jax.models.upsampler import UpsamplerConfig
    from unclip_jax.train.config import OptimConfig, TrainConfig
    from unclip_jax.train.optim import make_optimizer
    from unclip_jax.train.state import jit_once, make_state
    from unclip_jax.train.step import make_train_step
    from unclip_jax.train.task import StepConstants
    from unclip_jax.train.tasks.diffusion import make_diffusion_task

    unet = UNetConfig(
        peer.size,
        peer.channels,
        peer.mult,
        peer.res_blocks,
        in_channels=6,
        mid_attention=False,
        scale_shift=False,
    )
    spec = StageSpec("upsampler_256", UpsamplerConfig(unet, peer.size // 4), DiffusionConfig())
    optim = OptimConfig(peer.learning_rate, clip_norm=1.0, ema_decay=peer.ema_decay)
    train = TrainConfig(steps=1000, batch_size=peer.batch)
    module = make_module(spec)
    task = make_diffusion_task(spec, module, train, None)
    tx = make_optimizer(optim, abstract_params(spec), spec.fitted_names, train.steps)
    count = len(task.metric_names) + 1
    init = lambda: unboxed(init_variables(spec, module, root_key(0)))  # noqa: E731
    held = {"state": jit_once(lambda: make_state(init(), tx, count))()}
    program = jit_alone(make_train_step(task, tx, train, optim, 0))
    shape = (peer.batch, peer.size, peer.size, 3)
    rows = {"image": jnp.asarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))}

    def take() -> None:
        with jax.default_matmul_precision("highest"):
            held["state"], logged = program(held["state"], StepConstants(), rows)
        jax.block_until_ready((held["state"], logged))

    return take


def their_peer(peer: Peer) -> Callable[[], None]:
    """Returns the same step by diffusers and torch."""
    import torch
    from diffusers import DDPMScheduler, UNet2DModel
    from torch_training import torch_training

    torch.set_num_threads(peer.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    levels = len(peer.mult)
    model = UNet2DModel(
        sample_size=peer.size,
        in_channels=6,
        out_channels=3,
        layers_per_block=peer.res_blocks,
        block_out_channels=tuple(peer.channels * m for m in peer.mult),
        down_block_types=("ResnetDownsampleBlock2D",) * levels,
        up_block_types=("ResnetUpsampleBlock2D",) * levels,
        add_attention=False,
    ).to(device)
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    pictures = torch.randint(0, 256, (peer.batch, 3, peer.size, peer.size), dtype=torch.uint8)
    pictures = pictures.to(device)

    def loss() -> Any:
        x0 = pictures.float() / 127.5 - 1
        small = torch.nn.functional.avg_pool2d(x0, 4)
        low_res = torch.nn.functional.interpolate(small, scale_factor=4, mode="bicubic")
        t = torch.randint(0, 1000, (peer.batch,), device=device)
        noise = torch.randn_like(x0)
        x_t = scheduler.add_noise(x0, noise, t)
        out = model(torch.cat([x_t, low_res], dim=1), t).sample
        return torch.nn.functional.mse_loss(out, noise)

    rates = {"learning_rate": peer.learning_rate, "ema_decay": peer.ema_decay}
    return torch_training(model, loss, **rates)


def peer_table(found: dict[str, Any], peer: Peer, stated: dict[str, Any]) -> str:
    """Returns the comparison as Markdown; a ratio above 1 means that ours is faster."""
    lines = [
        f"{dataclasses.asdict(peer)}, float32, {stated}",
        "",
        "| side | device | step, s | images/s | to ours | CPU, s | to ours |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = found["unclip_jax"]
    for side, got in found.items():
        lines.append(
            f"| {side} | {got['device']} | {got['wall']:.3f} | {peer.batch / got['wall']:.1f} "
            f"| {got['wall'] / ours['wall']:.2f} | {got['cpu']:.3f} "
            f"| {got['cpu'] / ours['cpu']:.2f} |"
        )
    return "\n".join(lines)


def config_table(rows: list[dict[str, Any]], stated: dict[str, Any]) -> str:
    """Returns the rates as Markdown."""
    lines = [
        f"{stated}",
        "",
        "| config | parameters | batch | dtype | device | images/s | GFLOP/s | MFU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mfu = "-" if row["mfu"] is None else f"{row['mfu']:.1%}"
        lines.append(
            f"| {row['config']} | {row['params']:,} | {row['batch']} | {row['dtype']} "
            f"| {row['device']} | {row['images_per_second']:.1f} "
            f"| {row['gflops_per_second']:.1f} | {mfu} |"
        )
    return "\n".join(lines)


@click.command(cls=Benchmark)
@click.option("--config", "configs", multiple=True, help="Default: all stages of emoji.")
@click.option("--clip", default="emoji", show_default=True, help="Bundle whose CLIP sizes count.")
@click.option("--batch", type=COUNT, help="Instead of the config's.")
@click.option("--peer", is_flag=True, help="The same U-Net by ours and by torch, in turns.")
@click.option("--threads", default=os.cpu_count(), show_default=True, type=COUNT)
@click.option(
    "--repeats", default=5, show_default=True, type=COUNT, help="Steps after the first; the median."
)
@click.option("--json", "as_json", is_flag=True)
def main(
    configs: tuple[str, ...],
    clip: str,
    batch: int | None,
    peer: bool,
    threads: int,
    repeats: int,
    as_json: bool,
) -> None:
    """Prints training rates as Markdown, or as JSON."""
    threads = limit_threads(threads)
    packages = ("jax", "flax", *(("torch", "diffusers") if peer else ()))
    stated = environment(threads, packages)
    if peer:
        setup = Peer(batch=batch or Peer.batch, threads=threads)
        makers = {"unclip_jax": (our_peer, (setup,)), "diffusers": (their_peer, (setup,))}
        found = compare(makers, repeats)
        stated["load after"] = round(os.getloadavg()[0], 2)
        report = {"environment": stated, "peer": dataclasses.asdict(setup), "sides": found}
        click.echo(json.dumps(report) if as_json else peer_table(found, setup, stated))
        return
    rows = []
    for path in configs or [c for c in CONFIGS if os.path.exists(c)]:
        rows.append(time_config(path, batch, clip, repeats))
        click.echo(f"{path} done", err=True)
    report = {"environment": stated, "configs": rows}
    click.echo(json.dumps(report) if as_json else config_table(rows, stated))


if __name__ == "__main__":
    main()
