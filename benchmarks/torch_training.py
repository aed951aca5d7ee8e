"""Training steps in PyTorch: of diffusers' networks, of dalle2-pytorch and of open_clip.

Every step is forward, backward, clipping by the global norm, AdamW (fused on a GPU) and the moving
average of the parameters, under autocast in half precision: what our training step does.
"""

from collections.abc import Callable, Mapping
from typing import Any

from karlo_sides import Setup, their_inputs, their_module

CLIP_SIZES = {
    "embed_dim": 768,
    "vision": {"image_size": 224, "patch_size": 14, "width": 1024, "layers": 24, "head_width": 64},
    "text": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12},
}
"""CLIP ViT-L/14, Karlo's, in open_clip's words."""

TINY_CLIP = {
    "embed_dim": 32,
    "vision": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32},
    "text": {"context_length": 77, "vocab_size": 600, "width": 64, "heads": 2, "layers": 2},
}


def torch_training(
    module: Any,
    loss: Callable[[], Any],
    *,
    dtype: str = "float32",
    learning_rate: float = 1e-4,
    ema_decay: float = 0.9999,
    facts: Mapping[str, Any] | None = None,
    counts: bool = False,
) -> Callable[[], None]:
    """Returns a training step.

    Args:
        module: whose parameters are trained.
        loss: draws a batch's noise and returns the loss.
        counts: whether PyTorch's counter is asked for the FLOPs of a step.
    """
    import torch

    weights = [weight for weight in module.parameters() if weight.requires_grad]
    device = weights[0].device.type
    average = [weight.detach().clone() for weight in weights]
    way = {"fused": True} if device == "cuda" else {"foreach": True}
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0, **way)
    half = torch.bfloat16 if dtype == "float32" else getattr(torch, dtype)

    def gradients() -> None:
        with torch.autocast(device, half, enabled=dtype != "float32"):
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()

    def take() -> None:
        gradients()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [w.detach() for w in weights], 1 - ema_decay)
        if device == "cuda":
            torch.cuda.synchronize()

    take.facts = {"params": sum(weight.numel() for weight in weights), **(facts or {})}
    if counts:
        take.facts["flops"] = counted_flops(gradients)
    return take


def counted_flops(run: Callable[[], None]) -> float:
    """Returns the FLOPs of a call, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def prepared(setup: Setup) -> tuple[Any, str, dict[str, Any]]:
    """Returns torch, its device and where to draw arrays, threads and cuDNN's search set."""
    import torch

    torch.set_num_threads(setup.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch, device, {"device": device, "dtype": torch.float32}


def train_diffusers(setup: Setup, compiled: bool) -> Callable[[], None]:
    """Returns the step of diffusers' network of a stage; super-resolution trains on crops."""
    torch, device, place = prepared(setup)
    from diffusers import DDPMScheduler

    with torch.device(device):
        module = their_module(setup).train()
    if device == "cuda" and setup.stage != "prior":
        module = module.to(memory_format=torch.channels_last)
    network = torch.compile(module) if compiled else module
    x0, inputs = their_inputs(setup, place, guided=False, size=setup.crop)
    low_res = torch.randn_like(x0)
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")

    def loss() -> Any:
        t = torch.randint(0, 1000, (setup.images,), device=device)
        noise = torch.randn_like(x0)
        x_t = scheduler.add_noise(x0, noise, t)
        if setup.stage == "prior":
            return torch.nn.functional.mse_loss(network(x_t, t, **inputs)[0], x0)
        if setup.stage == "decoder":
            out = network(x_t, t, **inputs)[0]
            return torch.nn.functional.mse_loss(out.split(3, dim=1)[0], noise)
        out = network(torch.cat([x_t, low_res], dim=1), t)[0]
        return torch.nn.functional.mse_loss(out, noise)

    return torch_training(module, loss, dtype=setup.dtype, facts={"rows": setup.images})


def train_dalle2_prior(setup: Setup) -> Callable[[], None]:
    """Returns the step of dalle2-pytorch's prior: as many blocks, as wide; its own attention."""
    torch, device, place = prepared(setup)
    from dalle2_pytorch import DiffusionPrior, DiffusionPriorNetwork

    width = 64 * setup.heads
    sizes = {"dim": width, "depth": setup.layers, "dim_head": 64, "heads": setup.heads}
    network = DiffusionPriorNetwork(**sizes, max_text_len=77)
    module = DiffusionPrior(
        net=network,
        clip=None,
        image_embed_dim=width,
        timesteps=1000,
        cond_drop_prob=0.1,
        condition_on_text_encodings=True,
    ).to(device)
    image, text = (torch.randn(setup.images, width, **place) for _ in range(2))
    states = torch.randn(setup.images, 77, width, **place)

    def loss() -> Any:
        return module(text_embed=text, text_encodings=states, image_embed=image)

    facts = {"rows": setup.images}
    return torch_training(module, loss, dtype=setup.dtype, facts=facts, counts=True)


def train_dalle2_decoder(setup: Setup) -> Callable[[], None]:
    """Returns the step of dalle2-pytorch's decoder: as many levels, as wide; its own blocks."""
    torch, device, place = prepared(setup)
    from dalle2_pytorch import Decoder, Unet

    unet = Unet(
        dim=setup.channels,
        dim_mults=(1, 2, 3, 4),
        image_embed_dim=768,
        text_embed_dim=768,
        cond_dim=512,
        num_resnet_blocks=setup.res_blocks,
        self_attn=(False, True, True, True),
        attn_dim_head=64,
        cond_on_text_encodings=True,
        cond_on_image_embeds=True,
        max_text_len=77,
        learned_sinu_pos_emb=False,
    )
    module = Decoder(
        unet=(unet,), image_sizes=(setup.size,), timesteps=1000, clip=None, learned_variance=True
    ).to(device)
    pictures = torch.rand(setup.images, 3, setup.size, setup.size, **place)
    image = torch.randn(setup.images, 768, **place)
    states = torch.randn(setup.images, 77, 768, **place)

    def loss() -> Any:
        given = {"image_embed": image, "text_encodings": states, "unet_number": 1}
        return module(pictures, **given)

    facts = {"rows": setup.images}
    return torch_training(module, loss, dtype=setup.dtype, facts=facts, counts=True)


def train_open_clip(setup: Setup, compiled: bool) -> Callable[[], None]:
    """Returns the step of open_clip's CLIP of our sizes, with its contrastive loss."""
    torch, device, place = prepared(setup)
    from open_clip.loss import ClipLoss
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    sizes = TINY_CLIP if setup.tiny else CLIP_SIZES
    vision, text = CLIPVisionCfg(**sizes["vision"]), CLIPTextCfg(**sizes["text"])
    module = CLIP(sizes["embed_dim"], vision, text, quick_gelu=True).to(device).train()
    network, contrast = torch.compile(module) if compiled else module, ClipLoss()
    side = sizes["vision"]["image_size"]
    pictures = torch.randn(setup.images, 3, side, side, **place)
    tokens = torch.randint(1, text.vocab_size, (setup.images, text.context_length), device=device)

    def loss() -> Any:
        return contrast(*network(pictures, tokens)[:3])

    return torch_training(module, loss, dtype=setup.dtype, facts={"rows": setup.images})
