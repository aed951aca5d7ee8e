"""Fills a store of embeddings (data/embeddings.py) by a bundle's CLIP, and fits the PCA over it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.checkpoint.pca_file import PCA_FILE, save_pca
from unclip_jax.checkpoint.prior_samples import PriorSamples
from unclip_jax.checkpoint.runs import params_digest
from unclip_jax.core import prng
from unclip_jax.core.batching import map_batches
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import take
from unclip_jax.core.types import Cond
from unclip_jax.data import embeddings
from unclip_jax.data.embeddings import Record, StoreMeta
from unclip_jax.data.images import to_square
from unclip_jax.data.sources import Source
from unclip_jax.models.pca import Moments, Pca, fit_pca, unit_moments
from unclip_jax.models.stages import PRIORS
from unclip_jax.sampling import parallel
from unclip_jax.sampling.encode import encode_images, encode_text
from unclip_jax.sampling.monitor import Monitor, Progress
from unclip_jax.sampling.stage_sampler import StageSampler

BATCH = 256  # pictures encoded a call

CONTEXT = 256
"""Tokens of a caption that a store keeps at least: as many as the paper's priors read (table 3).

A CLIP reads its first 77 of them, and so does z_t. A prior with tokens of its own is trained on
what sampling gives it, which cuts a prompt at the prior's context and not at the CLIP's.
"""


def store_meta(
    model: Bundle, source: Source, data: Mapping[str, Any], shard_size: int
) -> StoreMeta:
    """Returns what the store of a source by a bundle's CLIP will hold."""
    spec = model.clip.spec.model
    if spec.vision is None or model.tokenizer is None:
        raise UserError(f"bundle {model.name!r} lacks an image tower or a vocabulary")
    return StoreMeta(
        clip=params_digest(model.clip.params),
        data=dict(data),
        width=spec.embed_dim,
        context=max(spec.text.context, CONTEXT),
        examples=len(source),
        shard_size=shard_size,
    )


def fill_store(
    model: Bundle,
    source: Source,
    folder: Path,
    meta: StoreMeta,
    *,
    crop: str = "center",
    process: tuple[int, int] = (0, 1),
    report: Callable[[int, int], None] | None = None,
) -> int:
    """Writes the shards that are missing and of this process; returns how many it wrote.

    Args:
        process: index and count; process p writes the shards p, p + count, …
        report: called with (pictures done, pictures to do).
    """
    index, count = process
    if jax.process_index() > 0:
        embeddings.wait_for_store(folder)
    if (folder / embeddings.META).exists():  # one that is gone on with keeps its context
        meta = dataclasses.replace(meta, context=embeddings.read_meta(folder).context)
    missing = embeddings.begin_store(folder, meta)
    mine = [shard for shard in missing if shard % count == index]
    total, done = sum(len(meta.members(shard)) for shard in mine), 0
    for shard in mine:
        records = _records(model, source, meta.members(shard), crop, meta.context)
        embeddings.write_shard(folder, shard, meta, records)
        done += len(meta.members(shard))
        if report is not None:
            report(done, total)
    return len(mine)


def _records(
    model: Bundle, source: Source, members: range, crop: str, context: int
) -> Iterator[Record]:
    spec = model.clip.spec.model
    side = spec.vision.image_size
    for start in range(members.start, members.stop, BATCH):
        examples = [source[i] for i in range(start, min(start + BATCH, members.stop))]
        images = np.stack([to_square(e["image"], side, crop=crop) for e in examples])
        image_emb = encode_images(model, images)
        captions = sorted({caption for e in examples for caption in e["captions"]})
        if not captions:
            continue
        text = encode_text(model, captions)
        tokens = model.tokenizer.encode(captions, context).tokens
        row = {caption: i for i, caption in enumerate(captions)}
        for example, z in zip(examples, image_emb, strict=True):
            for number, caption in enumerate(example["captions"]):
                at = row[caption]
                yield Record(
                    key=f"{example['key']}#{number}",
                    image_emb=np.asarray(z, np.float32),
                    text_emb=np.asarray(text.text_emb[at], np.float32),
                    tokens=np.asarray(tokens[at], np.int32),
                )


def sample_captions(
    model: Bundle,
    captions: Sequence[str],
    draws: int,
    *,
    prior: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> PriorSamples:
    """Draws `draws` image embeddings of each caption from a bundle's prior, by its own settings.

    Args:
        prior: "diffusion" or "ar".
    """
    name = PRIORS[prior]
    sampler = StageSampler(model, name, monitor=Monitor(progress))
    root, empty = prng.root_key(seed), encode_text(model, [""])
    share = max(1, BATCH * parallel.device_count() // draws)  # captions a call

    def draw(chosen: list[int]) -> dict[str, np.ndarray]:
        text = encode_text(model, [captions[i] for i in chosen])
        rows, numbers = np.divmod(np.arange(len(chosen) * draws), draws)
        keys = prng.image_keys(root, np.asarray(chosen)[rows], numbers)
        z = sampler(Cond(text=take(text, rows)), keys, uncond_text=empty)
        image_emb = z.astype(np.float32).reshape(len(chosen), draws, -1)
        return {"tokens": np.asarray(text.clip_tokens, np.int32), "image_emb": image_emb}

    found = map_batches(draw, range(len(captions)), min(share, len(captions)))
    return PriorSamples(clip=params_digest(model.clip.params), **found)


def fit_store_pca(folder: Path) -> Pca:
    """Fits the PCA over all pictures of a whole store and writes it beside the shards.

    Moments are summed shard by shard in float64; every picture counts once.
    """
    meta = embeddings.read_meta(folder)
    moments = Moments.zero(meta.width)
    for shard in range(meta.shards):
        records = embeddings.read_shard(folder, shard, meta)
        rows = [record.image_emb for record in records if record.key.endswith("#0")]
        if rows:
            moments = moments + unit_moments(np.stack(rows))
    if moments.count < 2:
        raise UserError(f"{folder} holds {moments.count} pictures, too few for a PCA")
    pca = fit_pca(moments, meta.clip)
    save_pca(folder / PCA_FILE, pca)
    return pca
