"""Records a toy Karlo folder and what diffusers computes: `python -m tests.golden.make_karlo`.

Needs torch and diffusers. Weights are random and rounded to float16, in which they are stored.
"""

import io
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers

from tests.parity.karlo_models import (
    PROMPTS,
    TOKENIZER,
    Toy,
    make_components,
    save_components,
)

GOLDEN = Path(__file__).parent / "karlo.npz"
TOY = Toy(9, dim=16, prior_heads=1, channels=8, groups=4, context_dim=12)
T = np.array([999, 417])


def nchw(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def evaluate(networks):
    """One evaluation of each network on drawn inputs; images are NHWC."""
    rng, size = np.random.default_rng(0), TOY.decoder_size
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    values = {"t": T, "prompts": np.array(PROMPTS)}
    tokens = TOKENIZER.encode(PROMPTS, TOY.context)
    text = networks["text_encoder"](torch.from_numpy(tokens.tokens).long())
    values |= {"text_emb": text.text_embeds, "text_states": text.last_hidden_state}
    mask = torch.from_numpy(tokens.mask)
    values["prior_x"] = draw(2, TOY.dim)
    values["prior"] = networks["prior"](
        torch.from_numpy(values["prior_x"]),
        torch.from_numpy(T),
        proj_embedding=text.text_embeds,
        encoder_hidden_states=text.last_hidden_state,
        attention_mask=mask,
    ).predicted_image_embedding
    values["z"], values["decoder_x"] = draw(2, TOY.dim), draw(2, size, size, 3)
    states, time = networks["text_proj"](
        image_embeddings=torch.from_numpy(values["z"]),
        prompt_embeds=text.text_embeds,
        text_encoder_hidden_states=text.last_hidden_state,
        do_classifier_free_guidance=False,
    )
    values["decoder"] = networks["decoder"](
        nchw(values["decoder_x"]),
        torch.from_numpy(T),
        encoder_hidden_states=states,
        class_labels=time,
        attention_mask=torch.nn.functional.pad(mask, (4, 0), value=True),
    ).sample.permute(0, 2, 3, 1)
    values["low_res"], values["sr_x"] = draw(2, size, size, 3), draw(2, 2 * size, 2 * size, 3)
    resized = torch.nn.functional.interpolate(
        nchw(values["low_res"]), size=[2 * size] * 2, mode="bicubic", antialias=True
    )
    inputs = torch.cat([nchw(values["sr_x"]), resized], 1)
    out = networks["super_res_last"](inputs, torch.from_numpy(T)).sample
    values["super_res_last"] = out.permute(0, 2, 3, 1)
    return {name: np.asarray(value) for name, value in values.items()}


@torch.no_grad()
def main():
    components = make_components(TOY)
    networks = {k: v for k, v in components.items() if not k.endswith("scheduler")}
    with tempfile.TemporaryDirectory() as folder:
        save_components({k: v.half() for k, v in networks.items()}, Path(folder))
        save_components({k: v for k, v in components.items() if k not in networks}, Path(folder))
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        files = {f"file/{p.relative_to(folder)}": p.read_bytes() for p in paths}
    arrays = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
    arrays |= evaluate({name: network.float() for name, network in networks.items()})
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
    arrays["versions"] = np.array(", ".join(f"{k} {v}" for k, v in versions.items()))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    GOLDEN.write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
