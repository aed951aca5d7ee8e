"""From captions to images: a list of samplers, each of which hands its result to those after it.

Images are numbered by (prompt index, draw); each has its own key, so that one more prompt or draw
changes no image that was there before, and the devices' number changes none.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Array, Float, Key, Num, UInt8

from unclip_jax.checkpoint.bundle import Bundle, CascadeStep
from unclip_jax.core import prng
from unclip_jax.core.batching import iter_batches
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import take
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data.images import to_uint8
from unclip_jax.models.stages import Sampling
from unclip_jax.sampling import parallel
from unclip_jax.sampling.arguments import check_num
from unclip_jax.sampling.encode import encode_text
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.prompts import check_prompts
from unclip_jax.sampling.rerank import best_of_candidates
from unclip_jax.sampling.settings import Plan, decoder_stage
from unclip_jax.sampling.stage_sampler import Sampler, StageSampler

REQUEST_LIMIT = 1_000_000  # images a call of `sample`; their list is kept in memory

Uncond = Mapping[str, TextFeatures]
"""Encoded captions of guidance's unconditional half, of one example each, by caption."""


class TextPrior(Sampler):
    """The paper's ablation in a prior's place: z_t is taken as z_i."""

    gives = "image_emb"

    def __call__(
        self,
        cond: Cond,
        keys: Key[Array, " n"],
        latent: Array | np.ndarray | None = None,
        *,
        uncond_text: TextFeatures | None = None,
    ) -> Float[Array | np.ndarray, "n d"]:
        """Returns the captions' raw text embeddings."""
        return cond.text.text_emb


def make_pipeline(model: Bundle, plan: Plan, monitor: Monitor | None = None) -> list[Sampler]:
    """Lists the samplers of a plan, from text to images of its size."""
    samplers: list[Sampler] = []
    if plan.prior_stage is not None:
        sampling = plan.prior_sampling
        prior = StageSampler(model, plan.prior_stage, sampling, plan.dtype, monitor=monitor)
        samplers.append(best_of_candidates(model, prior, plan.dtype))
    elif plan.prior == "text":
        samplers.append(TextPrior())
    decoder, caption = plan.decoder_sampling, plan.negative
    return samplers + image_samplers(
        model, decoder, plan.cascade, plan.dtype, uncond_caption=caption, monitor=monitor
    )


def image_samplers(
    model: Bundle,
    decoder: Sampling,
    cascade: Sequence[CascadeStep],
    dtype: str,
    *,
    uncond_caption: str = "",
    monitor: Monitor | None = None,
) -> list[StageSampler]:
    """Lists the samplers from z_i to images: the decoder and the steps of a cascade.

    Args:
        decoder: settings of the decoder; upsamplers are sampled with the bundle's.
    """
    name = decoder_stage(model)
    first = StageSampler(
        model, name, decoder, dtype, uncond_caption=uncond_caption, monitor=monitor
    )
    stages = [step.nets[0].stage for step in cascade]
    return [first, *(StageSampler(model, s, dtype=dtype, monitor=monitor) for s in stages)]


def run_pipeline(
    samplers: Sequence[Sampler],
    cond: Cond,
    keys: Key[Array, " n"],
    uncond: Uncond,
    latent: Float[np.ndarray, " n *x"] | None = None,
) -> Num[Array | np.ndarray, " n *d"]:
    """Runs samplers one after the other and returns the last one's result.

    Args:
        cond: what is there before the first sampler: captions, or z_i too.
        latent: x_T of the first sampler; None draws it from the keys.
    """
    for sampler in samplers:
        uncond_text = uncond.get(sampler.uncond_caption)
        result = sampler(cond, keys, latent, uncond_text=uncond_text)
        cond, latent = cond.replace(**{sampler.gives: result}), None
    return result


def encode_captions(
    model: Bundle, captions: Sequence[str], plan: Plan, monitor: Monitor
) -> tuple[TextFeatures, Uncond]:
    """Encodes every caption once, with the empty and the negative one."""
    distinct = list(dict.fromkeys(["", plan.negative, *captions]))
    features = monitor.timed("text", lambda: encode_text(model, distinct, dtype=plan.dtype))
    row = {caption: i for i, caption in enumerate(distinct)}
    uncond = {caption: take(features, [row[caption]]) for caption in ("", plan.negative)}
    return take(features, [row[caption] for caption in captions]), uncond


@dataclasses.dataclass(frozen=True)
class Request:
    """One image to make: its caption, and the numbers that its key is folded from."""

    prompt: str
    prompt_index: int
    draw: int


def requests_for(prompts: Sequence[str], num: int, first: int = 0) -> list[Request]:
    """Lists `num` images per prompt, grouped by prompt; `first` is the first prompt's index."""
    if not prompts:
        raise UserError("no prompt given")
    check_prompts(prompts)
    check_num(num)
    if len(prompts) * num > REQUEST_LIMIT:
        raise UserError(
            f"{len(prompts)} prompts x {num} are more than {REQUEST_LIMIT:,} images; make fewer"
        )
    return [
        Request(prompt, first + index, draw)
        for index, prompt in enumerate(prompts)
        for draw in range(num)
    ]


def generate(
    model: Bundle,
    requests: Sequence[Request],
    root: Key[Array, ""],
    plan: Plan,
    monitor: Monitor | None = None,
    *,
    batch: int | None = None,
) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
    """Yields the requested images in order, a device batch at a time.

    Args:
        batch: images of a call; None spreads the requests evenly. A caller with several lists of
            requests gives the same number for all, so that nothing is compiled again.
    """
    monitor = monitor or Monitor()
    samplers = make_pipeline(model, plan, monitor)

    def draw(batch: list[Request]) -> UInt8[np.ndarray, "n h w 3"]:
        text, uncond = encode_captions(model, [r.prompt for r in batch], plan, monitor)
        keys = prng.image_keys(root, [r.prompt_index for r in batch], [r.draw for r in batch])
        return to_uint8(run_pipeline(samplers, Cond(text=text), keys, uncond))

    yield from iter_batches(draw, requests, batch or parallel.device_batch(len(requests)))
