"""Whole runs against diffusers' pipelines, with the same noise: text to image, image variation.

diffusers cannot load its own saved unCLIP pipelines, so they are put together from components.
"""

import contextlib
import functools
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UnCLIPImageVariationPipeline, UnCLIPPipeline
from diffusers.schedulers import scheduling_unclip
from PIL import Image
from transformers import CLIPImageProcessor, CLIPTokenizer

import unclip_jax
from tests.golden.make_schedulers import with_float64_tables
from tests.parity.karlo_models import PROMPTS, TOYS, make_components, save_components
from unclip_jax.checkpoint import bundle
from unclip_jax.convert.import_weights import import_weights
from unclip_jax.core.types import Cond

TOY = TOYS[0]
STEPS = {"prior": 25, "decoder": 25, "super_res": 7}
RANGE_LIMIT = 1e-2  # of the images' range
SIDE = TOY.decoder_size
SHAPES = {
    "prior": (2, TOY.dim),
    "decoder": (2, SIDE, SIDE, 3),
    "super_res": (2, 2 * SIDE, 2 * SIDE, 3),
}


@pytest.fixture(scope="module")
def components():
    return make_components(TOY)


@pytest.fixture(scope="module")
def folder(components, tmp_path_factory):
    return save_components(components, tmp_path_factory.mktemp("karlo") / "source")


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    made = import_weights(folder, name="toy")
    return unclip_jax.load(bundle.save(made, tmp_path_factory.mktemp("bundle") / "toy"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return CLIPTokenizer.from_pretrained(
        folder / "tokenizer", pad_token="!", model_max_length=TOY.context
    )


@pytest.fixture(scope="module")
def noises():
    """x_T and the noise of every step, by stage."""
    rng = np.random.default_rng(7)
    return {
        stage: rng.standard_normal((steps + 1, *SHAPES[stage])).astype(np.float32)
        for stage, steps in STEPS.items()
    }


def to_torch(array):
    axes = (0, 3, 1, 2) if array.ndim == 4 else (0, 1)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))


@contextlib.contextmanager
def injected(noises, stages):
    """Hands the schedulers the steps' noise in order; a last step, at t = 0, asks for none."""
    queue = iter([to_torch(x) for stage in stages for x in noises[stage][1:-1]])
    before = scheduling_unclip.randn_tensor
    scheduling_unclip.randn_tensor = lambda shape, **_: next(queue)
    try:
        yield
        assert next(queue, None) is None
    finally:
        scheduling_unclip.randn_tensor = before


@contextlib.contextmanager
def recorded(pipeline):
    """Records z as the text projection takes it, and the small image as it is resized."""
    seen, resize = {}, torch.nn.functional.interpolate

    def look(module, args, kwargs):
        seen["z"] = kwargs["image_embeddings"].numpy()

    @functools.wraps(resize)  # the pipeline looks for `antialias` in its signature
    def spy(image, *args, **kwargs):
        if kwargs.get("mode") == "bicubic":
            seen["small"] = image.permute(0, 2, 3, 1).numpy()
        return resize(image, *args, **kwargs)

    handle = pipeline.text_proj.register_forward_pre_hook(look, with_kwargs=True)
    torch.nn.functional.interpolate = spy
    try:
        yield seen
    finally:
        torch.nn.functional.interpolate = resize
        handle.remove()


def made(kind, components, **others):
    names = ("text_encoder", "image_encoder", "prior", "text_proj", "decoder")
    names += ("super_res_first", "super_res_last")
    names += ("prior_scheduler", "decoder_scheduler", "super_res_scheduler")
    if kind is UnCLIPPipeline:
        names = [name for name in names if name != "image_encoder"]
    else:
        names = [name for name in names if not name.startswith("prior")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = kind(**{name: components[name] for name in names}, **others)
    pipeline.set_progress_bar_config(disable=True)
    for name in names:  # its float32 tables are off by 5e-4 at t = 0
        if name.endswith("scheduler"):
            scheduler = with_float64_tables(getattr(pipeline, name))
            scheduler.one = torch.ones((), dtype=torch.float64)
    return pipeline


def noise_of(noises, stage):
    table = jnp.asarray(noises[stage])
    return lambda step, shape: table[step + 1].reshape(shape)


def ours_from(model, noises, cond):
    """Decoder and super-resolution, as the bundle has them."""
    small = unclip_jax.run_stage(model, "decoder", cond, noise=noise_of(noises, "decoder"))
    low_res = Cond(low_res=small)
    noise = noise_of(noises, "super_res")
    return small, unclip_jax.run_stage(model, "super_res_first", low_res, noise=noise)


def within(agree, name, ours, theirs):
    """The largest difference as a part of the range 2; `agree` divides by the largest value."""
    scale = np.abs(theirs).max()
    agree(name, ours, theirs, 2 * RANGE_LIMIT / scale)


def test_text_to_image(components, model, tokenizer, noises, agree):
    pipeline = made(UnCLIPPipeline, components, tokenizer=tokenizer)
    latents = {f"{stage}_latents": to_torch(noises[stage][0]) for stage in STEPS}
    with injected(noises, STEPS), recorded(pipeline) as seen:
        result = pipeline(
            PROMPTS,
            prior_num_inference_steps=STEPS["prior"],
            decoder_num_inference_steps=STEPS["decoder"],
            super_res_num_inference_steps=STEPS["super_res"],
            output_type="np",
            **latents,
        ).images
    text = unclip_jax.embed_text(model, PROMPTS)
    z = unclip_jax.run_stage(model, "prior", Cond(text=text), noise=noise_of(noises, "prior"))
    agree("text to image: z", z, seen["z"], 1e-3)
    small, large = ours_from(model, noises, Cond(image_emb=z, text=text))
    within(agree, "text to image: small image", small, seen["small"])
    within(agree, "text to image: large image", large, 2 * result - 1)


def test_image_variation(components, model, tokenizer, noises, agree):
    """No inversion: z_i of the image, white noise and the empty prompt in both halves."""
    images = np.random.default_rng(3).integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)
    pipeline = made(
        UnCLIPImageVariationPipeline, components, tokenizer=tokenizer, feature_extractor=processor
    )
    stages = ("decoder", "super_res")
    one = {stage: noise[:, :1] for stage, noise in noises.items()}
    latents = {f"{stage}_latents": to_torch(one[stage][0]) for stage in stages}
    with injected(one, stages), recorded(pipeline) as seen:
        result = pipeline(
            Image.fromarray(images[0]),
            decoder_num_inference_steps=STEPS["decoder"],
            super_res_num_inference_steps=STEPS["super_res"],
            output_type="np",
            **latents,
        ).images
    z = unclip_jax.embed_image(model, images)
    agree("variation: z", z, seen["z"], 1e-4)
    small, large = ours_from(model, one, Cond(image_emb=z))
    within(agree, "variation: small image", small, seen["small"])
    within(agree, "variation: large image", large, 2 * result - 1)
