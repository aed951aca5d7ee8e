"""The whole chain: captions -> z_t, text states -> z_i -> 64 pixels -> larger.

Images are numbered by (prompt index, draw); each has its own key, so that one more prompt or draw
changes no image that was there before, and the devices' number changes none.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core import prng
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.data.images import to_uint8
from unclip_jax.sampling import parallel, runs
from unclip_jax.sampling.encode import encode_text, with_own_tokens
from unclip_jax.sampling.prompts import check_lengths
from unclip_jax.sampling.runner import BATCH_LIMIT, Progress, StageRunner, image_keys
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve

REQUEST_LIMIT = 1_000_000  # images a call of `sample`; their list is kept in memory


@dataclasses.dataclass(frozen=True)
class Request:
    """One image to make: its caption, and the numbers that its key is folded from."""

    prompt: str
    prompt_index: int
    draw: int


def requests_for(prompts: Sequence[str], num: int, first: int = 0) -> list[Request]:
    """Lists `num` images a prompt, prompt-major; `first` is the index of the first prompt."""
    if not prompts:
        raise UserError("no prompt given")
    check_lengths(prompts)
    if num < 1:
        raise UserError(f"num must be at least 1, not {num}")
    if len(prompts) * num > REQUEST_LIMIT:
        raise UserError(
            f"{len(prompts)} prompts x {num} are more than {REQUEST_LIMIT:,} images; make fewer"
        )
    return [
        Request(prompt, first + index, draw)
        for index, prompt in enumerate(prompts)
        for draw in range(num)
    ]


def sample(
    model: Bundle,
    prompts: Sequence[str],
    *,
    key: Key[Array, ""] | None = None,
    num: int = 1,
    settings: SampleSettings = SampleSettings(),
    progress: Progress | None = None,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Makes `num` images a prompt, prompt-major; `key` defaults to that of seed 0."""
    root = prng.root_key(0) if key is None else key
    plan = resolve(model, settings)
    requests = requests_for([prompts] if isinstance(prompts, str) else list(prompts), num)
    return np.concatenate(list(generate(model, requests, root, plan, progress=progress)))


def generate(
    model: Bundle,
    requests: Sequence[Request],
    root: Key[Array, ""],
    plan: Plan,
    *,
    progress: Progress | None = None,
    seconds: dict[str, float] | None = None,
) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
    """Yields the requested images in order, a device batch at a time.

    Args:
        seconds: if given, the wall time of each stage is added to it.
    """
    per_device = parallel.batch_per_device(len(requests), BATCH_LIMIT)
    size = per_device * parallel.device_count()
    runner = StageRunner(progress, {} if seconds is None else seconds)
    for start in range(0, len(requests), size):
        batch = requests[start : start + size]
        captions = Captions(model, [r.prompt for r in batch], plan, runner)
        stage = functools.partial(
            runner.stage, keys=_image_keys(root, batch), per_device=per_device
        )
        yield to_uint8(chain(model, plan, captions.rows(range(len(batch))), stage))


def chain(
    model: Bundle,
    plan: Plan,
    captions: Callable[[str, str], tuple[TextFeatures, TextFeatures]],
    stage: Callable[[runs.Run, Cond, TextFeatures | None], Any],
) -> Any:
    """Hands the result of each stage to the next and returns the last one's images.

    Args:
        captions: captions(stage's name, caption) -> the examples' captions as that stage reads
            them, and the one caption that its guidance contrasts with.
        stage: stage(run, cond, contrasted caption) -> the result of a run.
    """
    text, negative = captions("decoder", plan.negative)
    image_emb = None
    if plan.prior == "text":
        image_emb = text.text_emb
    elif plan.prior_stage is not None:
        given, empty = captions(plan.prior_stage, "")
        run = runs.single_net(model, plan.prior_stage, plan.prior_sampling, plan.dtype)
        image_emb = stage(run, Cond(text=given), empty)
    run = runs.single_net(model, "decoder", plan.decoder_sampling, plan.dtype)
    images = stage(run, Cond(image_emb=image_emb, text=text), negative)
    for step in plan.cascade:
        images = stage(runs.cascade_run(model, step, plan.dtype), Cond(low_res=images), None)
    return images


class Captions:
    """The encoded captions of a plan's images, as each stage reads them."""

    def __init__(self, model: Bundle, prompts: Sequence[str], plan: Plan, runner: StageRunner):
        """Encodes every caption once, with the empty and the negative one."""
        self._model = model
        self._list = list(dict.fromkeys(["", plan.negative, *prompts]))
        self._prompts = list(prompts)
        self._features = runner.timed(
            "text", lambda: encode_text(model, self._list, dtype=plan.dtype)
        )

    def rows(
        self, chosen: Sequence[int] | np.ndarray
    ) -> Callable[[str, str], tuple[TextFeatures, TextFeatures]]:
        """Returns `chain`'s captions of the chosen images."""
        index = [self._list.index(self._prompts[i]) for i in chosen]

        def captions_of(stage: str, contrast: str) -> tuple[TextFeatures, TextFeatures]:
            own = with_own_tokens(self._model, self._features, self._list, stage)
            return _rows(own, index), _rows(own, [self._list.index(contrast)])

        return captions_of


def _rows(features: TextFeatures, index: Sequence[int] | np.ndarray) -> TextFeatures:
    return jax.tree.map(lambda leaf: leaf[np.asarray(index)], features)


def _image_keys(root: Key[Array, ""], batch: Sequence[Request]) -> Key[Array, " n"]:
    return image_keys(root, [r.prompt_index for r in batch], [r.draw for r in batch])
