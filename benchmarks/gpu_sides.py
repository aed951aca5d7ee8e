"""Our sides of `gpu.py`: training steps, the shipped bundle, attention alone (also PyTorch's)."""

from collections.abc import Callable, Mapping
from typing import Any

from karlo_sides import Setup, our_spec
from train_step import model_flops, program_step, sections_program


def karlo_sections(setup: Setup, remat: str) -> dict[str, Any]:
    """Returns the config of a training of Karlo's stage: the paper's, with Karlo's sizes.

    No CLIP runs in the step: its features come with the batch, as from a store of embeddings.
    """
    from unclip_jax.cli.config_files import read_config
    from unclip_jax.convert.karlo_specs import CLIP_VIT_L_14
    from unclip_jax.models.stages import StageSpec, spec_to_dict
    from unclip_jax.train.throughput import with_remat

    names = {"prior": "prior_diffusion", "super_res_first": "upsampler_256"}
    path = f"configs/paper/{names.get(setup.stage, setup.stage)}.py"
    path += ":smoke" if setup.tiny else ""
    flags = [f"--config.train.batch_size={setup.images}", f"--config.train.dtype={setup.dtype}"]
    if setup.stage == "clip":
        flags += ["--config.train.sam_rho=0"]
        flags += [] if setup.tiny else ["--config.data.image_size=224"]
        spec = StageSpec("clip", CLIP_VIT_L_14)
    else:
        flags += ["--config.clip="]
        spec = our_spec(setup)
    if setup.stage == "super_res_first":
        flags += [f"--config.data.image_size={setup.size}"]
        flags += [f"--config.train.crop_size={setup.crop}"]
    config = read_config(path, flags)
    if setup.stage == "clip" and setup.tiny:
        return dict(config)
    values = spec_to_dict(with_remat(spec, remat))
    return {**config, **{key: value for key, value in values.items() if value is not None}}


def train_karlo(setup: Setup, remat: str) -> Callable[[], None]:
    """Returns our training step of a stage in Karlo's sizes."""
    return training(karlo_sections(setup, remat), remat)


def train_config(path: str, rows: int, remat: str, dtype: str) -> Callable[[], None]:
    """Returns our training step of a config file, without a CLIP in the step and without SAM."""
    from unclip_jax.cli.config_files import read_config
    from unclip_jax.plan.candidates import remat_keys

    config = read_config(path, [])
    flags = [f"--config.train.batch_size={rows}", f"--config.train.dtype={dtype}"]
    flags += [f"--config.{key}={remat}" for key in remat_keys(config["model"], "model")]
    flags += ["--config.train.sam_rho=0" if config["stage"] == "clip" else "--config.clip="]
    return training(read_config(path, flags), remat)


def training(sections: Mapping[str, Any], remat: str) -> Callable[[], None]:
    """Returns a training step with its facts.

    Raises:
        MemoryError: state and gradients alone exceed the device's memory.
    """
    import jax

    from unclip_jax.core.trees import count_params
    from unclip_jax.plan.estimate import tree_bytes

    program = sections_program(sections)
    params = count_params(program.state.params)
    held = tree_bytes(program.state) + 4 * params
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", held)
    if held > limit:
        raise MemoryError(f"out of memory: {held / 2**30:.0f} GiB of state and gradients")
    take = program_step(program)

    def run() -> None:
        take()

    rows, flops = program.settings.train.batch_size, model_flops(program)
    run.facts = {"rows": rows, "params": params, "flops": flops, "remat": remat}
    return run


def sample_emoji(num: int, dtype: str) -> Callable[[], None]:
    """Returns a function that samples `num` images with the shipped bundle."""
    from sample import timed_run

    from unclip_jax import api
    from unclip_jax.sampling.settings import SampleSettings

    bundle, settings = api.load("emoji"), SampleSettings(dtype=dtype)

    def run() -> None:
        timed_run(bundle, "a red heart", num, settings)

    run.facts = {"rows": num}
    return run


def attention_sizes(tiny: bool) -> tuple[int, int, int, int]:
    """Returns images, queries, context vectors and heads of 64 channels."""
    return (2, 64, 9, 2) if tiny else (16, 1024, 81, 10)


def attention(tiny: bool) -> Callable[[], None]:
    """Returns attention with its gradients in half precision, and how far off it is.

    The error is relative, the largest of the result's and the gradients', against float32.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from unclip_jax.nn.attention import attend, key_mask

    images, queries, context, heads = attention_sizes(tiny)
    rng, keys = np.random.default_rng(0), queries + context
    shapes = [(images, n, heads, 64) for n in (queries, keys, keys, queries)]
    exact = [jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes]
    lengths = rng.integers(1, context + 1, images)
    visible = np.arange(keys) - queries < lengths[:, None]

    def gradients(q: Any, k: Any, v: Any, weights: Any) -> Any:
        out, back = jax.vjp(lambda *qkv: attend(*qkv, key_mask(jnp.asarray(visible))), q, k, v)
        return out, *back(weights)

    program = jax.jit(gradients)
    half = [array.astype(jnp.bfloat16) for array in exact]
    with jax.default_matmul_precision("highest"):
        wanted = jax.jit(gradients)(*(array.astype(jnp.float32) for array in half))
    found = program(*half)
    errors = [
        float(jnp.linalg.norm((a.astype(jnp.float32) - b).ravel()) / jnp.linalg.norm(b.ravel()))
        for a, b in zip(found, wanted, strict=True)
    ]

    def run() -> None:
        for _ in range(20):
            out = program(*half)
        jax.block_until_ready(out)

    run.facts = {"rows": 20 * images, "error": max(errors)}
    return run


def torch_attention(tiny: bool) -> Callable[[], None]:
    """Returns PyTorch's attention of the same shapes."""
    import torch

    images, queries, context, heads = attention_sizes(tiny)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    place = {"device": device, "dtype": torch.bfloat16}
    keys = queries + context
    q, k, v, weights = (
        torch.randn(images, heads, n, 64, requires_grad=True, **place)
        for n in (queries, keys, keys, queries)
    )
    mask = torch.ones(images, 1, queries, keys, dtype=torch.bool, device=device)
    attend = torch.nn.functional.scaled_dot_product_attention

    def run() -> None:
        for _ in range(20):
            torch.autograd.grad(attend(q, k, v, attn_mask=mask), (q, k, v), weights)
        if device == "cuda":
            torch.cuda.synchronize()

    run.facts = {"rows": 20 * images}
    return run
