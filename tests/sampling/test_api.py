"""The conventions of predict, denoise_fn and x0_denoiser; embeddings; classification."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unclip_jax
from tests.toy import DIM, SIZE, with_prior_ar
from unclip_jax.core.errors import UserError
from unclip_jax.core.types import Cond
from unclip_jax.sampling.encode import check_images, fit_to_tower
from unclip_jax.sampling.single_stage import root_of, stage_name

# float32 programs of another shape or fusion.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
T = np.array([10, 700])


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    x_t = rng.standard_normal((2, SIZE, SIZE, 3)).astype(np.float32)
    return x_t, rng.standard_normal((2, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def text(toy):
    return unclip_jax.embed_text(toy, ["a red heart", "the sun"])


@pytest.fixture(scope="module")
def decoded(toy, inputs, text):
    """Returns the decoder's raw output with everything given."""
    x_t, image_emb = inputs
    return unclip_jax.predict(toy, "decoder", x_t, T, image_emb=image_emb, text=text)


def test_shapes_of_raw_outputs(toy, inputs, decoded):
    x_t, image_emb = inputs
    assert decoded.shape == (2, SIZE, SIZE, 6)
    assert unclip_jax.predict(toy, "prior", image_emb, T).shape == (2, DIM)
    large = np.zeros((2, 32, 32, 3), np.float32)
    output = unclip_jax.predict(toy, "upsampler_256", large, T, low_res=x_t)
    assert output.shape == (2, 32, 32, 3)


def test_no_text_is_the_empty_caption(toy, inputs, decoded):
    x_t, image_emb = inputs
    given = unclip_jax.embed_text(toy, ["", ""])
    left_out = unclip_jax.predict(toy, "decoder", x_t, T, image_emb=image_emb)
    explicit = unclip_jax.predict(toy, "decoder", x_t, T, image_emb=image_emb, text=given)
    np.testing.assert_allclose(left_out, explicit, **CLOSE)
    assert np.abs(left_out - decoded).max() > 1e-3


def test_no_image_embedding_is_the_null_one(toy, inputs, text, decoded):
    x_t, image_emb = inputs
    left_out = unclip_jax.predict(toy, "decoder", x_t, T, text=text)
    cond = Cond(image_emb=image_emb, image_keep=np.zeros(2, bool), text=text)
    function = jax.jit(unclip_jax.denoise_fn(toy, "decoder"))
    dropped = function(toy.stage("decoder").params, x_t, T, cond)
    np.testing.assert_allclose(left_out, as_noise(dropped, x_t), **CLOSE)
    assert np.abs(left_out - decoded).max() > 1e-3


def as_noise(raw, x_t):
    """The toy decoder predicts v = alpha eps - sigma x0, so that eps = sigma x_t + alpha v."""
    alpha, sigma = levels()
    return np.concatenate([sigma * x_t + alpha * raw[..., :3], raw[..., 3:]], axis=-1)


def levels():
    """Alpha and sigma at T by the cosine schedule's own definition, betas at most 0.999.

    Nichol & Dhariwal 2021, eq. 17.
    """
    level = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - level[1:] / level[:-1], 0.999))[T]
    return [np.sqrt(a)[:, None, None, None] for a in (alpha_bar, 1 - alpha_bar)]


def test_the_embeddings_length_is_normalized_away(toy, inputs, text, decoded):
    x_t, image_emb = inputs
    longer = unclip_jax.predict(toy, "decoder", x_t, T, image_emb=7 * image_emb, text=text)
    np.testing.assert_allclose(longer, decoded, **CLOSE)


def with_guidance(model, stage, guidance):
    sampling = model.stage(stage).spec.sampling
    return dataclasses.replace(sampling, guidance=guidance, x0_bound=None)


def test_guidance_is_the_linear_mix_of_two_predictions(toy, inputs, text, decoded):
    """x0 = (x_t - sigma eps) / alpha, eps = uncond + s (cond - uncond); s = 1 is conditional."""
    x_t, image_emb = inputs
    uncond = unclip_jax.predict(toy, "decoder", x_t, T)
    alpha, sigma = levels()
    cond = Cond(image_emb=image_emb, text=text)
    for scale in (0.5, 1.0, 3.5):
        sampling = with_guidance(toy, "decoder", scale)
        denoise = unclip_jax.x0_denoiser(toy, "decoder", cond, sampling=sampling)
        eps = uncond + scale * (decoded - uncond)
        out = denoise(jnp.asarray(x_t), jnp.asarray(T))
        x0 = (x_t - sigma * eps[..., :3]) / alpha
        np.testing.assert_allclose(out.x0, x0, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(2 * out.variance_frac - 1, decoded[..., 3:], **CLOSE)


def test_a_negative_caption_takes_the_empty_ones_place(toy, inputs, text, decoded):
    """Guidance away from it: eps = negative + s (cond - negative), without z_i in the negative."""
    x_t, image_emb = inputs
    away = unclip_jax.embed_text(toy, ["a dog face", "a dog face"])
    negative = unclip_jax.predict(toy, "decoder", x_t, T, text=away)
    denoise = unclip_jax.x0_denoiser(
        toy,
        "decoder",
        Cond(image_emb=image_emb, text=text),
        sampling=with_guidance(toy, "decoder", 3.5),
        negative="a dog face",
    )
    alpha, sigma = levels()
    eps = negative + 3.5 * (decoded - negative)
    x0 = (x_t - sigma * eps[..., :3]) / alpha
    found = denoise(jnp.asarray(x_t), jnp.asarray(T)).x0
    np.testing.assert_allclose(found, x0, rtol=1e-3, atol=1e-3)


def test_the_prior_is_the_bundles_default_one(toy):
    both = with_prior_ar(toy)
    assert stage_name(both, "prior") == "prior_diffusion"
    switched = dataclasses.replace(both, sampling=dataclasses.replace(both.sampling, prior="ar"))
    assert stage_name(switched, "prior") == "prior_ar"


def test_denoise_fn_has_gradients(toy, inputs):
    _, image_emb = inputs
    function = unclip_jax.denoise_fn(toy, "prior")
    text = unclip_jax.embed_text(toy, ["a red heart", "the sun"])
    cond = Cond(text=jax.tree.map(jnp.asarray, text))
    params = toy.stage("prior_diffusion").params
    t = jnp.asarray(T)
    grad = jax.jit(jax.grad(lambda x: function(params, x, t, cond).sum()))(jnp.asarray(image_emb))
    assert np.isfinite(grad).all()
    assert np.abs(grad).max() > 0


def test_a_bundle_shows_itself_in_a_few_lines(toy):
    shown = repr(toy)
    assert len(shown.splitlines()) <= 12 and len(shown) < 800
    for word in ("toy", "clip", "decoder", "upsampler_256", "16 or 32 pixels"):
        assert word in shown


def test_unknown_stages_are_named(toy, inputs):
    with pytest.raises(UserError, match="upsampler_1024.*upsampler_256"):
        unclip_jax.predict(toy, "upsampler_1024", inputs[0], T)


@pytest.mark.parametrize(
    ("stage", "needed"),
    [("prior", "text"), ("decoder", "image_emb or Cond.text"), ("upsampler_256", "low_res")],
)
def test_an_empty_condition_is_one_line(toy, stage, needed):
    noise = {"noise": lambda step, shape: jnp.zeros(shape)}
    for call in (
        lambda: unclip_jax.x0_denoiser(toy, stage, Cond()),
        lambda: unclip_jax.run_stage(toy, stage, Cond()),
        lambda: unclip_jax.run_stage(toy, stage, Cond(), **noise),
    ):
        with pytest.raises(UserError, match=f"missing: give Cond.{needed}$"):
            call()


def test_uint8_and_float_images_embed_alike(toy):
    pixels = np.random.default_rng(2).integers(0, 256, (3, 20, 20, 3), np.uint8)
    of_uint8 = unclip_jax.embed_image(toy, pixels)
    of_float = unclip_jax.embed_image(toy, (pixels / 127.5 - 1).astype(np.float32))
    assert of_uint8.shape == (3, DIM)
    np.testing.assert_allclose(of_uint8, of_float, **CLOSE)


def test_what_is_resized_for_the_tower_has_eight_bits(toy):
    """As in CLIP's own preprocessing, which resizes 8-bit images to 8-bit ones."""
    pixels = np.random.default_rng(5).integers(0, 256, (20, 28, 3), np.uint8)
    levels = (fit_to_tower(toy.stage("clip").spec.model, pixels) + 1) * 127.5
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert levels.min() >= 0 and levels.max() <= 255 and levels.std() > 10


def test_captions_do_not_see_each_other(toy):
    captions = [f"caption {i}" for i in range(11)]
    together = unclip_jax.embed_text(toy, captions)
    alone = unclip_jax.embed_text(toy, captions[7])
    np.testing.assert_allclose(together.text_emb[7:8], alone.text_emb, **CLOSE)
    np.testing.assert_array_equal(together.text_mask[7:8], alone.text_mask)


def test_classify_is_a_softmax_of_cosines(toy):
    pixels = np.random.default_rng(3).integers(0, 256, (2, 16, 16, 3), np.uint8)
    labels = ["a red heart", "the sun", "a dog face"]
    found = unclip_jax.classify(toy, pixels, labels)
    z_i = unclip_jax.embed_image(toy, pixels).astype(np.float64)
    z_t = unclip_jax.embed_text(toy, labels).text_emb.astype(np.float64)
    cosines = z_i @ z_t.T / np.outer(np.linalg.norm(z_i, axis=1), np.linalg.norm(z_t, axis=1))
    logits = np.exp(float(toy.stage("clip").params["logit_scale"])) * cosines
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    with pytest.raises(UserError, match="no label"):
        unclip_jax.classify(toy, pixels, [])
    # One label is a label, not its letters.
    assert unclip_jax.classify(toy, pixels, "a red heart").tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((16, 16, 3), np.uint8), "not uint8 .16, 16, 3."),
        (np.zeros((1, 16, 16, 1), np.uint8), "uint8 or floats"),
        (np.zeros((1, 16, 16, 3), np.int64), "not int64"),
        (np.zeros((1, 0, 16, 3), np.uint8), "must have pixels"),
        (np.full((1, 16, 16, 3), 200.0), "must lie in .-1, 1."),
        (np.full((1, 16, 16, 3), -3.0), "must lie in .-1, 1."),
    ],
)
def test_what_is_no_picture_is_refused(toy, images, complaint):
    with pytest.raises(UserError, match=complaint):
        check_images(images)
    if images.ndim == 4:
        with pytest.raises(UserError, match=complaint):
            unclip_jax.vary(toy, images)


def test_calls_of_images_take_one_key():
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(UserError, match="key must be one key, not 2"):
        root_of(keys)


@pytest.mark.parametrize("masks", [np.ones((16, 16), bool), np.ones((2, 16, 16), bool), []])
def test_inpainting_takes_a_mask_for_each_image(toy, masks):
    images = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="masks must be one array .* of the 1 images"):
        unclip_jax.inpaint(toy, images, masks, ["a"])


def test_a_dtype_that_nothing_computes_in_is_one_line(toy):
    for call in (unclip_jax.embed_text, unclip_jax.sample):
        with pytest.raises(
            UserError, match="dtype must be one of float32, bfloat16, not 'float16'"
        ):
            call(toy, ["a"], dtype="float16")
