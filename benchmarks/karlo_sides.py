"""Denoising by Karlo's networks, one step or all, by us and by diffusers, with random weights."""

import dataclasses
from collections.abc import Callable
from typing import Any

STEPS = {"prior": 25, "decoder": 25, "super_res_first": 7}  # diffusers' defaults


@dataclasses.dataclass(frozen=True)
class Setup:
    """The settings of both implementations.

    Attributes:
        images: examples of a step; with guidance the network sees twice as many.
        whole: whether a call takes all steps of the stage in place of one.
    """

    stage: str
    tiny: bool
    images: int
    dtype: str
    threads: int
    whole: bool = False

    @property
    def steps(self) -> int:
        """Denoising steps of a call."""
        return STEPS[self.stage] if self.whole and not self.tiny else 1 + self.whole

    @property
    def channels(self) -> int:
        """Channels of the first level of a U-Net."""
        return 32 if self.tiny else 320

    @property
    def res_blocks(self) -> int:
        """Residual blocks per level."""
        return 1 if self.tiny else 3

    @property
    def size(self) -> int:
        """Pixels of the stage's images."""
        full = 64 if self.stage == "decoder" else 256
        return full // 4 if self.tiny else full

    @property
    def crop(self) -> int:
        """Pixels of the squares that the stage is trained on."""
        return self.size // 4 if self.stage == "super_res_first" else self.size

    @property
    def layers(self) -> int:
        """Blocks of the prior."""
        return 2 if self.tiny else 20

    @property
    def heads(self) -> int:
        """Attention heads of the prior, 64 channels each."""
        return 2 if self.tiny else 32


def our_spec(setup: Setup) -> Any:
    """Returns the stage's spec, from the preset."""
    from unclip_jax.convert.karlo_specs import karlo_specs
    from unclip_jax.nn.transformer import TransformerConfig

    name = "prior_diffusion" if setup.stage == "prior" else setup.stage
    spec = karlo_specs()[name]
    model = spec.model
    if setup.stage == "prior":
        stack = TransformerConfig(64 * setup.heads, setup.layers, setup.heads)
        model = dataclasses.replace(model, transformer=stack)
    else:
        levels = tuple(setup.size // 2**i for i in (1, 2, 3))
        unet = dataclasses.replace(
            model.unet,
            image_size=setup.size,
            channels=setup.channels,
            res_blocks=setup.res_blocks,
            head_channels=16 if setup.tiny else 64,
            attention_resolutions=levels if setup.stage == "decoder" else (),
        )
        model = dataclasses.replace(model, unet=unet)
    if setup.stage == "super_res_first":
        model = dataclasses.replace(model, low_res_size=setup.size // 4)
    sampling = dataclasses.replace(spec.sampling, steps=STEPS[setup.stage])
    return dataclasses.replace(spec, model=model, sampling=sampling)


def our_step(setup: Setup) -> Callable[[], None]:
    """Returns a function that takes the steps of a call, compiled as in sampling."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from unclip_jax.core import prng
    from unclip_jax.core.flops import work_of
    from unclip_jax.core.trees import count_params
    from unclip_jax.diffusion.samplers import init_state, run_steps
    from unclip_jax.models.stages import abstract_params
    from unclip_jax.sampling import programs

    spec = our_spec(setup)
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> Any:
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        values = rng.random(leaf.shape, np.float32)
        values -= 0.5
        values *= np.float32(3 / fan_in) ** 0.5
        return jax.device_put(values)

    params = jax.tree.map(draw, abstract_params(spec))
    program_key = programs.ProgramKey.of(spec, spec.sampling, setup.dtype)
    cond, empty = our_condition(setup, rng)
    plan, scale = programs.sampling_plan(program_key), np.float32(spec.sampling.guidance)

    def read(params: Any, cond: Any, empty: Any) -> Any:
        return programs.prepare(program_key, params, cond, empty)

    def step(params: Any, index: Any, prepared: Any, keys: Any, state: Any) -> Any:
        denoise = programs.prepared_denoiser(program_key, params, prepared, scale)
        noise = programs.example_noise(program_key, keys)
        return run_steps(denoise, state, plan, noise, start=index, count=setup.steps)[0]

    program = jax.jit(step, donate_argnums=(4,))
    prepared = jax.jit(read)(params, cond, empty)
    keys = prng.example_keys(prng.root_key(0), np.arange(setup.images))
    noise = rng.standard_normal((setup.images, *program_key.shape)).astype(np.float32)
    held = {"state": init_state(jnp.asarray(noise)), "index": 0}

    def run() -> None:
        index = np.int32(held["index"] % max(1, plan.num_steps - setup.steps))
        held["state"] = program(params, index, prepared, keys, held["state"])
        held["index"] += 1
        jax.block_until_ready(held["state"])

    run.facts = {"rows": setup.images, "params": count_params(params)}
    if setup.whole:
        run.facts["flops"] = work_of(step, params, np.int32(0), prepared, keys, held["state"]).flops
    return run


def our_condition(setup: Setup, rng: Any) -> tuple[Any, Any]:
    """Returns random conditioning, and the unconditional caption of guidance."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from unclip_jax.core.types import Cond, TextFeatures

    def normal(*shape: int) -> Any:
        return jnp.asarray(rng.standard_normal(shape).astype(np.float32))

    n = setup.images
    if setup.stage == "super_res_first":
        small = setup.size // 4
        return Cond(low_res=normal(n, small, small, 3)), None
    text = TextFeatures(normal(n, 768), normal(n, 77, 768), jnp.ones((n, 77), bool))
    image_emb = normal(n, 768) if setup.stage == "decoder" else None
    return Cond(image_emb=image_emb, text=text), jax.tree.map(lambda leaf: leaf[:1], text)


def their_module(setup: Setup) -> Any:
    """Returns diffusers' module of the stage."""
    from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel

    if setup.stage == "prior":
        return PriorTransformer(
            num_attention_heads=setup.heads, attention_head_dim=64, num_layers=setup.layers
        )
    widths = tuple(setup.channels * i for i in (1, 2, 3, 4))
    common = {"layers_per_block": setup.res_blocks, "block_out_channels": widths}
    common |= {"sample_size": setup.size}
    if setup.stage == "decoder":
        return UNet2DConditionModel(
            in_channels=3,
            out_channels=6,
            down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
            up_block_types=(*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            cross_attention_dim=1536,
            attention_head_dim=16 if setup.tiny else 64,
            class_embed_type="identity",
            resnet_time_scale_shift="scale_shift",
            **common,
        )
    return UNet2DModel(
        in_channels=6,
        out_channels=3,
        down_block_types=("ResnetDownsampleBlock2D",) * 4,
        up_block_types=("ResnetUpsampleBlock2D",) * 4,
        add_attention=False,
        **common,
    )


def their_inputs(
    setup: Setup, place: dict[str, Any], guided: bool, size: int | None = None
) -> tuple[Any, dict[str, Any]]:
    """Returns noise and random inputs of diffusers' network, with two rows per image if guided.

    Args:
        size: pixels of the images; None is that of the stage.
    """
    import torch

    n, image = setup.images, (3, size or setup.size, size or setup.size)
    rows = 2 * n if guided else n
    tokens = {"prior": 77, "decoder": 81}.get(setup.stage, 0)
    mask = torch.ones(rows, tokens, dtype=torch.bool, device=place["device"])
    if setup.stage == "prior":
        return torch.randn(n, 768, **place), {
            "proj_embedding": torch.randn(rows, 768, **place),
            "encoder_hidden_states": torch.randn(rows, tokens, 768, **place),
            "attention_mask": mask,
        }
    if setup.stage == "decoder":
        return torch.randn(n, *image, **place), {
            "encoder_hidden_states": torch.randn(rows, tokens, 1536, **place),
            "class_labels": torch.randn(rows, 4 * setup.channels, **place),
            "attention_mask": mask,
        }
    return torch.randn(n, *image, **place), {}


def their_step(setup: Setup, compiled: bool) -> Callable[[], None]:
    """Returns a function that takes the steps of a call as diffusers' unCLIP pipeline does.

    On a GPU with the settings that its documentation recommends: cuDNN's search, channels last.
    """
    import torch
    from diffusers import UnCLIPScheduler

    torch.set_num_threads(setup.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    place = {"device": device, "dtype": getattr(torch, setup.dtype)}
    with torch.device(device):
        module = their_module(setup).eval()
    module = module if setup.dtype == "float32" else module.to(place["dtype"])
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        if setup.stage != "prior":
            module = module.to(memory_format=torch.channels_last)
    network = torch.compile(module) if compiled else module
    learned = setup.stage == "decoder"
    scheduler = UnCLIPScheduler(
        variance_type="learned_range" if learned else "fixed_small_log",
        prediction_type="sample" if setup.stage == "prior" else "epsilon",
        clip_sample_range=5.0 if setup.stage == "prior" else 1.0,
    )
    scheduler.set_timesteps(STEPS[setup.stage], device=device)
    guided = setup.stage != "super_res_first"
    x, inputs = their_inputs(setup, place, guided)
    low_res = torch.randn(setup.images, 3, setup.size, setup.size, **place)
    held = {"x": x, "index": 0}

    def predict(t: Any) -> Any:
        if not guided:
            return network(torch.cat([held["x"], low_res], dim=1), t).sample
        output = network(torch.cat([held["x"]] * 2), t, **inputs)[0]
        without, with_text = output.chunk(2)
        if not learned:
            return without + 4.0 * (with_text - without)
        (without, _), (with_text, variance) = without.split(3, dim=1), with_text.split(3, dim=1)
        return torch.cat([without + 8.0 * (with_text - without), variance], dim=1)

    def run() -> None:
        last = len(scheduler.timesteps) - 1
        for _ in range(setup.steps):
            index = held["index"] % (last + setup.whole)
            t, following = scheduler.timesteps[index], None
            if index < last:
                following = scheduler.timesteps[index + 1]
            with torch.no_grad():
                stepped = scheduler.step(predict(t), t, held["x"], following)
            held["x"], held["index"] = stepped.prev_sample, held["index"] + 1
        if device == "cuda":
            torch.cuda.synchronize()

    parameters = sum(weight.numel() for weight in module.parameters())
    run.facts = {"rows": setup.images, "params": parameters}
    return run
