"""The whole chain: captions -> z_t, text states -> z_i -> 64 pixels -> larger.

Images are numbered by (prompt index, draw); each has its own key, so that one more prompt or draw
changes no image that was there before, and the devices' number changes none.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, UInt8

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core import prng
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond, TextFeatures
from unclip_jax.sampling import parallel, stages
from unclip_jax.sampling.encode import encode_text, with_own_tokens
from unclip_jax.sampling.settings import Plan, SampleSettings, resolve

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, steps done, steps of the stage); it also costs the stage's split."""

BATCH_LIMIT = 16  # images a device makes a call
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
) -> UInt8[np.ndarray, "n h w 3"]:
    """Makes `num` images a prompt, prompt-major; `key` defaults to that of seed 0."""
    root = prng.root_key(0) if key is None else key
    plan = resolve(model, settings)
    requests = requests_for([prompts] if isinstance(prompts, str) else list(prompts), num)
    return np.concatenate(list(generate(model, requests, root, plan)))


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
    seconds = {} if seconds is None else seconds
    for start in range(0, len(requests), size):
        batch = requests[start : start + size]
        chain = _Chain(model, plan, per_device, progress, seconds)
        yield chain.run(batch, root)


def chain(
    model: Bundle,
    plan: Plan,
    captions: Callable[[str, str], tuple[TextFeatures, TextFeatures]],
    stage: Callable[[stages.Run, Cond, TextFeatures | None], Any],
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
        run = stages.single_net(model, plan.prior_stage, plan.prior_sampling, plan.dtype)
        image_emb = stage(run, Cond(text=given), empty)
    run = stages.single_net(model, "decoder", plan.decoder_sampling, plan.dtype)
    images = stage(run, Cond(image_emb=image_emb, text=text), negative)
    for step in plan.cascade:
        images = stage(stages.cascade_run(model, step, plan.dtype), Cond(low_res=images), None)
    return images


@dataclasses.dataclass(frozen=True)
class _Chain:
    """The chain for one device batch; `seconds` collects the wall time of each stage."""

    model: Bundle
    plan: Plan
    per_device: int
    progress: Progress | None
    seconds: dict[str, float]

    def run(self, batch: Sequence[Request], root: Key[Array, ""]) -> np.ndarray:
        """Returns the batch's images, uint8."""
        captions = list(dict.fromkeys(["", self.plan.negative, *(r.prompt for r in batch)]))
        features = self._timed("text", lambda: encode_text(self.model, captions, dtype=self.dtype))
        rows = np.asarray([captions.index(r.prompt) for r in batch])
        keys, n = _image_keys(root, batch), len(batch)

        def captions_of(stage: str, contrast: str) -> tuple[TextFeatures, TextFeatures]:
            own = with_own_tokens(self.model, features, captions, stage)
            return _rows(own, rows), _rows(own, [captions.index(contrast)])

        def stage(run: stages.Run, cond: Cond, empty: TextFeatures | None) -> np.ndarray:
            return self._stage(run, cond, empty, keys, n)

        images = chain(self.model, self.plan, captions_of, stage)
        return stages.to_uint8(images)

    @property
    def dtype(self) -> str:
        """Arithmetic dtype of the networks."""
        return self.plan.dtype

    def _stage(
        self, run: stages.Run, cond: Cond, empty: TextFeatures | None, keys: Any, n: int
    ) -> np.ndarray:
        split_cond, split_keys = parallel.split((cond, keys), self.per_device)
        report = None
        if self.progress is not None:
            report = lambda done, total: self.progress(run.name, done, total)  # noqa: E731
        result = self._timed(
            run.name,
            lambda: stages.run_over_devices(run, split_cond, empty, split_keys, report),
        )
        made = parallel.join(result, n)
        if not np.isfinite(made).all():
            raise UserError(
                f"{run.name} made values that are not finite; lower the guidance, or use float32"
            )
        return made

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = jax.block_until_ready(work())
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result


def _rows(features: TextFeatures, index: Sequence[int] | np.ndarray) -> TextFeatures:
    return jax.tree.map(lambda leaf: leaf[np.asarray(index)], features)


@jax.jit
def _fold(root: Key[Array, ""], prompt_index: Array, draw: Array) -> Key[Array, " n"]:
    return jax.vmap(prng.image_key, in_axes=(None, 0, 0))(root, prompt_index, draw)


def _image_keys(root: Key[Array, ""], batch: Sequence[Request]) -> Key[Array, " n"]:
    prompt_index = np.asarray([r.prompt_index for r in batch], np.uint32)
    return _fold(root, prompt_index, np.asarray([r.draw for r in batch], np.uint32))
