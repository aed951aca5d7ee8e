"""Text to image as one StableHLO program, which needs only JAX to run.

    program.stablehlo     a serialized `jax.export` program
    params.npz            its parameters by path ("decoder/unet/conv_in/kernel")
    program.json          inputs, outputs, special token ids, settings, SHA-256 of the other files
    tokenizer.json        the vocabulary, in the `tokenizers` library's format

The program maps (params, tokens, prompt_index, draw, seed) to uint8 images, the same as those of
`sample`. Parameters are arguments; everything else of the bundle is part of the program. A bfloat16
array is stored, and taken by the program, as its bits in uint16, since .npz has no bfloat16.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Int, UInt8, UInt32

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.checkpoint.tensors import as_dtype, sha256
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import new_folder
from unclip_jax.core.kernels import own_attention
from unclip_jax.core.prng import image_keys, root_key
from unclip_jax.core.renamed import with_old_keys
from unclip_jax.core.trees import flatten_paths, take, unflatten_paths
from unclip_jax.core.types import Cond, Params
from unclip_jax.data.images import to_uint8
from unclip_jax.models.stages import CLIP
from unclip_jax.sampling.encode import text_encoder
from unclip_jax.sampling.pipeline import make_pipeline, run_pipeline
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve
from unclip_jax.sampling.stage_sampler import PureSampler, StageSampler
from unclip_jax.text.context import fit_context, until_eot
from unclip_jax.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
PLATFORMS = ("cpu", "cuda", "tpu")

Program = Callable[..., UInt8[Array, "n h w 3"]]


def save_program(
    model: Bundle,
    out: str | Path,
    *,
    settings: SampleSettings = SampleSettings(),
    num: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
    overwrite: bool = False,
) -> Path:
    """Writes the folder `out`, all of it or nothing, and returns it.

    Args:
        model: loaded with `params_dtype=None`, so that parameters keep their stored dtype.
        num: images per call; None makes it a symbolic dimension of the program.
    """
    plan = resolve(model, settings)
    with new_folder(Path(out), "program.json", overwrite=overwrite) as folder:
        params = stored_params(model, plan)
        program = export_program(model, plan, params, num=num, platforms=platforms)
        (folder / "program.stablehlo").write_bytes(program.serialize())
        np.savez(folder / "params.npz", **params)
        _write_tokenizer(_tokenizer(model), _context(model, plan), folder / "tokenizer.json")
        about = _description(model, plan, program)
        about["files"] = {path.name: sha256(path) for path in sorted(folder.iterdir())}
        text = json.dumps(about, indent=1, ensure_ascii=False)
        (folder / "program.json").write_text(text + "\n", encoding="utf-8")
    return Path(out)


def export_program(
    model: Bundle,
    plan: Plan,
    params: Mapping[str, np.ndarray],
    *,
    num: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> export.Exported:
    """Lowers `sampling_program` for the given platforms, whatever the platform of this machine."""
    unknown = sorted(set(platforms) - set(PLATFORMS))
    if unknown or not platforms:
        raise UserError(
            f"platforms must be some of {', '.join(PLATFORMS)}, not {','.join(platforms)!r}"
        )
    if num is not None and num < 1:
        raise UserError(f"num must be at least 1, not {num}")
    size = num if num is not None else export.symbolic_shape("n")[0]
    per_image = jax.ShapeDtypeStruct((size,), jnp.uint32)
    inputs = (
        {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in params.items()},
        jax.ShapeDtypeStruct((size, _context(model, plan)), jnp.int32),
        per_image,
        per_image,
        jax.ShapeDtypeStruct((), jnp.uint32),
    )
    program = jax.jit(sampling_program(model, plan))
    with own_attention():  # the one that every platform has
        return export.export(program, platforms=tuple(platforms))(*inputs)


def sampling_program(model: Bundle, plan: Plan) -> Program:
    """Returns the pure function (params, tokens, prompt_index, draw, seed) -> images.

    Image i has the key of draw[i] of prompt number prompt_index[i]. A row of `tokens` is one
    caption: SOT, tokens, EOT, then padding; a longer one than a stage's context is cut before EOT.
    """
    context, spec = _context(model, plan), model.clip.spec
    uncond = _tokenizer(model).encode(["", plan.negative], context).tokens
    encode, samplers = text_encoder(spec, plan.dtype), make_pipeline(model, plan)

    def program(
        params: Mapping[str, Array],
        tokens: Int[Array, "n ctx"],
        prompt_index: UInt32[Array, " n"],
        draw: UInt32[Array, " n"],
        seed: UInt32[Array, ""],
    ) -> UInt8[Array, "n h w 3"]:
        own = _computed_params(model, params)
        keys = image_keys(root_key(seed), prompt_index, draw)
        rows = jnp.concatenate([jnp.asarray(uncond), tokens])
        read = fit_context(rows, spec.model.text.context)
        features = encode(own[CLIP], read, until_eot(read)).replace(tokens=rows)
        captions = {plan.negative: take(features, slice(1, 2)), "": take(features, slice(0, 1))}
        pure = [PureSampler(s, own) if isinstance(s, StageSampler) else s for s in samplers]
        text = Cond(text=take(features, slice(2, None)))
        return to_uint8(run_pipeline(pure, text, keys, captions))

    return program


def stored_params(model: Bundle, plan: Plan) -> dict[str, np.ndarray]:
    """Returns the program's parameters by path, in their stored dtypes."""
    stored = {}
    for name in _used_stages(model, plan):
        stage = model.stage(name)
        for path, leaf in flatten_paths(stage.params).items():
            if name == CLIP and path.startswith("vision/"):
                continue
            array = as_dtype(leaf, stage.dtype, f"{name}/{path}")
            bits = array.view(np.uint16) if stage.dtype == "bfloat16" else array
            stored[f"{name}/{path}"] = bits
    return stored


def _used_stages(model: Bundle, plan: Plan) -> list[str]:
    """Returns the names of the stages that the program runs, each once, in order."""
    samplers = [s for s in make_pipeline(model, plan) if isinstance(s, StageSampler)]
    nets = [net.stage.spec.stage for sampler in samplers for net in sampler.nets]
    return list(dict.fromkeys([CLIP, *nets]))


def _computed_params(model: Bundle, params: Mapping[str, Array]) -> dict[str, Params]:
    """Returns each stage's parameter tree in float32 from the flat stored arrays."""

    def restored(path: str, array: Array) -> Array:
        if model.stages[path.partition("/")[0]].dtype == "bfloat16":
            array = jax.lax.bitcast_convert_type(array, jnp.bfloat16)
        return array.astype(jnp.float32)

    return unflatten_paths({path: restored(path, array) for path, array in params.items()})


def _context(model: Bundle, plan: Plan) -> int:
    """Returns the largest context, in tokens, of the stages of the plan."""
    own = [model.stage(name).spec.model.own_context for name in _used_stages(model, plan)]
    return max(model.clip.spec.model.text.context, *(n or 0 for n in own))


def _tokenizer(model: Bundle) -> Tokenizer:
    if model.tokenizer is None:
        raise UserError(f"bundle {model.name!r} has no tokenizer")
    return model.tokenizer


def _write_tokenizer(tokenizer: Tokenizer, context: int, path: Path) -> None:
    tokenizer.save(path)
    Tokenizer.load(path, context).save(path)


def _description(model: Bundle, plan: Plan, program: export.Exported) -> dict[str, Any]:
    """Returns the contents of program.json, without the hashes."""
    names, tokenizer = ("tokens", "prompt_index", "draw", "seed"), _tokenizer(model)
    inputs = program.in_avals[-len(names) :]
    used = _used_stages(model, plan)
    return {
        "format_version": FORMAT_VERSION,
        "model": with_old_keys({"name": model.name, "license": model.license}),
        "platforms": list(program.platforms),
        "call": ["params", *names],
        "inputs": {name: _shape(aval) for name, aval in zip(names, inputs, strict=True)},
        "output": _shape(program.out_avals[0]),
        "tokens": {
            "context": inputs[0].shape[1],
            "pad_id": tokenizer.pad_id,
            "sot_id": tokenizer.sot_id,
            "eot_id": tokenizer.eot_id,
            "vocab_size": tokenizer.vocab_size,
        },
        "settings": plan.to_json(),
        "params": {name: stage.dtype for name, stage in model.stages.items() if name in used},
        "jax": jax.__version__,
    }


def _shape(aval: Any) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
    return {"shape": shape, "dtype": str(aval.dtype)}
