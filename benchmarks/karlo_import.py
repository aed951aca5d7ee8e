"""Imports one full-size Karlo decoder (0.9B random weights) and compares a step with diffusers.

    python benchmarks/karlo_import.py [--folder DIR]

Needs the extra "parity", about 8 GB of disk and 9 GB of memory. Prints the time and the peak memory
of the import, which runs in a process of its own, and the largest error of one evaluation in
float32.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CONTEXT, DIM, SIZE = 77, 768, 64
T = np.array([417])


def reference(folder: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Writes a random decoder as diffusers saves it; returns its output for the inputs."""
    import torch
    from diffusers import UnCLIPScheduler, UNet2DConditionModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    cross = ("SimpleCrossAttnDownBlock2D",) * 3
    unet = UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=3,
        out_channels=6,
        block_out_channels=(320, 640, 960, 1280),
        layers_per_block=3,
        down_block_types=("ResnetDownsampleBlock2D", *cross),
        up_block_types=("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=1536,
        attention_head_dim=64,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )
    projection = UnCLIPTextProjModel(time_embed_dim=1280, cross_attention_dim=1536)
    for model in (unet, projection):
        for name, p in model.named_parameters():
            fan_in = p[0].numel() if p.ndim > 1 else 100
            with torch.no_grad():
                p.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, fan_in**-0.5)
        model.eval()
    unet.save_pretrained(folder / "decoder")
    projection.save_pretrained(folder / "text_proj")
    UnCLIPScheduler(variance_type="learned_range").save_pretrained(folder / "decoder_scheduler")
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    mask = torch.nn.functional.pad(tensors["mask"], (4, 0), value=True)
    with torch.no_grad():
        states, emb = projection(
            image_embeddings=tensors["z"],
            prompt_embeds=tensors["text_emb"],
            text_encoder_hidden_states=tensors["states"],
            do_classifier_free_guidance=False,
        )
        out = unet(
            tensors["x"].permute(0, 3, 1, 2),
            torch.from_numpy(T),
            encoder_hidden_states=states,
            class_labels=emb,
            attention_mask=mask,
        ).sample
    return out.permute(0, 2, 3, 1).numpy()


def import_decoder(folder: Path, out: Path) -> None:
    """Imports and saves, as `unclip import` does with each stage."""
    from unclip_jax.checkpoint import bundle
    from unclip_jax.convert.import_karlo import import_diffusers_decoder

    stage = import_diffusers_decoder(folder, CONTEXT).stage
    bundle.save(bundle.Bundle("decoder", {"decoder": stage}), out)


def main() -> None:
    """Runs all of it in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to put the 8 GB; default: temporary")
    parser.add_argument("--import-only", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.import_only:
        import_decoder(*args.import_only)
        return
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.standard_normal((1, SIZE, SIZE, 3), np.float32),
        "z": rng.standard_normal((1, DIM), np.float32),
        "text_emb": rng.standard_normal((1, DIM), np.float32),
        "states": rng.standard_normal((1, CONTEXT, DIM), np.float32),
        "mask": np.arange(CONTEXT)[None] < 9,
    }
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        expected = reference(folder / "source", inputs)
        gc.collect()
        start = time.perf_counter()
        command = [sys.executable, __file__, "--import-only", folder / "source", folder / "bundle"]
        subprocess.run(list(map(str, command)), check=True)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        error = compare(folder / "bundle", inputs, expected)
        size = (folder / "bundle" / "decoder.safetensors").stat().st_size / 2**30
    result = {"import_seconds": seconds, "import_peak_gib": peak, "component_gib": size}
    sys.stdout.write(json.dumps(result | {"largest_relative_error": error}, indent=1) + "\n")


def compare(folder: Path, inputs: dict[str, np.ndarray], expected: np.ndarray) -> float:
    """Returns the largest error of our output, relative to the largest value."""
    import unclip_jax

    model = unclip_jax.load(folder)
    text = unclip_jax.TextFeatures(inputs["text_emb"], inputs["states"], inputs["mask"])
    out = unclip_jax.predict(model, "decoder", inputs["x"], T, image_emb=inputs["z"], text=text)
    return float(np.abs(np.asarray(out) - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main()
