"""Slerp against NumPy; identities of variations, interpolations, text diffs, reconstructions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unclip_jax
from tests.toy import CAPTIONS, DIM, LARGE, SIZE, random_params, root
from unclip_jax.checkpoint.bundle import Stage
from unclip_jax.core.errors import UserError
from unclip_jax.core.prng import image_keys
from unclip_jax.core.types import Cond
from unclip_jax.diffusion.config import DiffusionConfig, SamplingConfig
from unclip_jax.diffusion.inversion import ddim_invert
from unclip_jax.diffusion.samplers import sample_loop
from unclip_jax.diffusion.schedules import make_schedule, respaced_steps
from unclip_jax.models.embedding_norm import EmbeddingNorm
from unclip_jax.models.pca import fit_pca, unit_moments
from unclip_jax.sampling import inpaint, latents, manipulate, parallel
from unclip_jax.sampling.latents import LatentSettings, resolve_latents
from unclip_jax.sampling.monitor import Monitor

FAST = {"size": SIZE, "invert_steps": 8}
ALL, LAST = slice(0, 9), slice(8, 9)


def oracle(a, b, theta):
    """The paper's formula in float64, for vectors that are not on one line."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    w = np.arccos(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
    return (np.sin((1 - theta) * w) * a + np.sin(theta * w) * b) / np.sin(w)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 20, 7)).astype(np.float32)


def test_slerp_is_the_formula(vectors):
    a, b = vectors
    theta = np.linspace(0, 1, 20, dtype=np.float32)
    found = np.asarray(manipulate.slerp(a, b, theta))
    expected = np.stack([oracle(*row) for row in zip(a, b, theta.astype(np.float64), strict=True)])
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("kind", ["apart", "near", "parallel", "antipodal", "almost antipodal"])
def test_slerp_keeps_norms_and_ends(vectors, kind):
    a = vectors[0] / np.linalg.norm(vectors[0], axis=1, keepdims=True)
    b = {
        "apart": vectors[1],
        "near": a + 1e-4 * vectors[1],
        "parallel": 3 * a,
        "antipodal": -a,
        "almost antipodal": -a + 1e-4 * vectors[1],
    }[kind]
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    for theta in (0.0, 0.25, 0.5, 0.9, 1.0):
        found = np.asarray(manipulate.slerp(a, b, np.full(20, theta, np.float32)))
        assert np.isfinite(found).all()
        tolerance = 1e-3 if "almost" in kind else 2e-6  # there 1 / sin w is 10^4
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=tolerance)
        if theta in (0.0, 1.0):
            np.testing.assert_array_equal(found, b if theta else a)
    if kind == "antipodal":  # equal angles from both ends
        middle = np.asarray(manipulate.slerp(a, b, np.full(20, 0.5, np.float32)))
        np.testing.assert_allclose(np.sum(middle * a, axis=1), 0.0, atol=1e-6)


def test_slerp_of_images_is_of_their_pixels(vectors):
    a, b = vectors[:, :2, :4].reshape(2, 2, 2, 2)
    theta = np.asarray([0.3, 0.7], np.float32)
    flat = manipulate.slerp(a.reshape(2, 4), b.reshape(2, 4), theta)
    np.testing.assert_array_equal(manipulate.slerp(a, b, theta), flat.reshape(2, 2, 2))


def test_parallel_of_unequal_length_is_linear():
    found = manipulate.slerp(np.ones((1, 3)), 5 * np.ones((1, 3)), np.asarray([0.25], np.float32))
    np.testing.assert_allclose(found, 2.0, rtol=1e-6)


def karlo_like(toy):
    """The toy with a decoder of Karlo's parametrisation: eps, standardized embeddings."""
    spec = dataclasses.replace(
        toy.stage("decoder").spec,
        diffusion=DiffusionConfig(prediction="eps", variance="learned_range", loss="hybrid"),
        sampling=SamplingConfig("ddpm", steps=4, guidance=3.0, x0_bound=10.0),
        embedding_norm=EmbeddingNorm("standardize"),
    )
    stages = {**toy.stages, "decoder": Stage(spec, random_params(spec, 3))}
    return dataclasses.replace(toy, stages=stages)


@pytest.fixture(scope="module", params=["emoji", "karlo"])
def model(request, toy):
    return toy if request.param == "emoji" else karlo_like(toy)


@pytest.fixture(scope="module")
def rebuilt(model, images):
    return unclip_jax.vary(model, images, eta=0.0, key=root(), **FAST)


def test_eta_0_is_the_inversion_decoded(model, images, rebuilt):
    """The same by the diffusion core alone, on one device."""
    x = jnp.asarray(images, jnp.float32) / 127.5 - 1
    steps = respaced_steps(1000, 8)
    spec = model.stage("decoder").spec
    schedule = make_schedule("cosine", 1000)
    plain = SamplingConfig("ddim", guidance=1.0, x0_bound=spec.sampling.x0_bound)
    cond = Cond(image_emb=unclip_jax.embed_image(model, images))
    denoise = unclip_jax.x0_denoiser(model, "decoder", cond, sampling=plain)

    @jax.jit
    def through(x):
        latent = ddim_invert(denoise, x, schedule=schedule, steps=steps, skip_last=True)
        return sample_loop(
            denoise,
            latent,
            schedule=schedule,
            config=plain,
            diffusion=spec.diffusion,
            noise=lambda i, shape: jnp.zeros(shape),
            steps=steps[1:],
        )

    expected = np.clip(np.round((np.asarray(through(x)) + 1) * 127.5), 0, 255)
    assert np.abs(expected - rebuilt).max() <= 2
    assert rebuilt.std() > 1


def test_theta_0_and_the_ends_are_the_rebuilt_pictures(model, images, rebuilt):
    edited = unclip_jax.edit(model, images, "the sun", source="a dog face", frames=3, **FAST)
    np.testing.assert_allclose(edited[::3].astype(int), rebuilt, atol=1)
    assert np.abs(edited[1::3].astype(int) - rebuilt).max() > 1
    path = unclip_jax.interpolate(model, images[:2], images[1:], frames=3, **FAST)
    np.testing.assert_allclose(path[[0, 3]].astype(int), rebuilt[:2], atol=1)
    np.testing.assert_allclose(path[[2, 5]].astype(int), rebuilt[1:], atol=1)


def test_more_draws_change_no_earlier_one(toy, images):
    few = unclip_jax.vary(toy, images[:2], num=1, key=root(), **FAST)
    many = unclip_jax.vary(toy, images, num=3, key=root(), **FAST)
    np.testing.assert_allclose(many[[0, 3]].astype(int), few, atol=1)
    assert np.abs(many[0].astype(int) - many[1]).max() > 1


def test_fixed_noise_gives_paths_of_their_own(toy, images):
    call = {"frames": 3, "noise": "fixed", "key": root(), "size": SIZE}
    two = unclip_jax.interpolate(toy, images[:1], images[1:2], num=2, **call)
    one = unclip_jax.interpolate(toy, images[:1], images[1:2], num=1, **call)
    np.testing.assert_allclose(two[:3].astype(int), one, atol=1)
    assert np.abs(two[3:].astype(int) - one).max() > 1


def test_the_upsampler_follows(toy, images):
    large = unclip_jax.vary(toy, images[:1], eta=0.0, invert_steps=4)
    assert large.shape == (1, LARGE, LARGE, 3)


def test_text_direction_is_the_unit_difference():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 3, 5))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    difference = unit[0] - unit[1]
    expected = difference / np.linalg.norm(difference, axis=1, keepdims=True)
    np.testing.assert_allclose(manipulate.text_direction(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(manipulate.text_direction(a, None), unit[0], atol=1e-6)
    with pytest.raises(UserError, match="must differ"):
        manipulate.text_direction(a, 2 * a)


def test_edited_embeddings_turn_by_theta_of_the_angle(toy):
    z = np.random.default_rng(3).standard_normal((2, DIM)).astype(np.float32)
    texts = CAPTIONS[:2]
    found = manipulate.edited_embeddings(toy, z, texts, None, np.asarray([0.0, 0.5, 1.0]))
    z_t = unclip_jax.embed_text(toy, texts).text_emb.astype(np.float64)
    for i in range(2):
        goal = z_t[i] / np.linalg.norm(z_t[i]) * np.linalg.norm(z[i])
        np.testing.assert_array_equal(found[3 * i], z[i])
        np.testing.assert_allclose(found[3 * i + 1], oracle(z[i], goal, 0.5), atol=1e-5)
        np.testing.assert_allclose(found[3 * i + 2], goal, atol=1e-5)


def test_all_components_are_the_embedding_itself(toy, images, tmp_path):
    rows = np.random.default_rng(4).standard_normal((60, DIM))
    held = dataclasses.replace(toy, pca=fit_pca(unit_moments(rows)))
    made = unclip_jax.reconstruct(held, images, dims=(0, 3, DIM, 2 * DIM), key=root(), size=SIZE)
    assert len(made) == 3 * 3  # 2 DIM is clipped to DIM, which is there already
    fixed = {"noise": "fixed", "frames": 2, "key": root(), "size": SIZE}
    plain = unclip_jax.interpolate(toy, images, images, **fixed)[::2]
    np.testing.assert_allclose(made[2::3].astype(int), plain, atol=1)
    assert np.abs(made[1::3].astype(int) - plain).max() > 1
    # No component left: only the noise tells the pictures apart, and it is a picture's own.
    again = unclip_jax.reconstruct(held, images[::-1], dims=(0,), key=root(), size=SIZE)
    np.testing.assert_allclose(made[::3].astype(int), again, atol=1)
    with pytest.raises(UserError, match="has no PCA"):
        unclip_jax.reconstruct(toy, images)
    with pytest.raises(UserError, match="width"):
        narrow = dataclasses.replace(toy, pca=fit_pca(unit_moments(rows[:, :5])))
        unclip_jax.reconstruct(narrow, images, dims=(2,), size=SIZE)


def test_python_calls_report_their_progress(toy, images):
    """Every stage to its last step, and the watched images are those of an unwatched call."""
    seen = []

    def progress(stage, done, total):
        seen.append((stage, done, total))

    watched = unclip_jax.vary(toy, images, eta=0.0, key=root(), progress=progress, **FAST)
    last = {stage: (done, total) for stage, done, total in seen}
    assert last == {"inversion": (7, 7), "decoder": (7, 7)}
    assert [done for stage, done, _ in seen if stage == "decoder"] == list(range(8))
    unwatched = unclip_jax.vary(toy, images, eta=0.0, key=root(), **FAST)
    np.testing.assert_array_equal(watched, unwatched)
    seen.clear()
    masks = np.zeros(images.shape[:3], bool)
    masks[:, 3:9, 5:] = True
    call = {"resamples": 2, "steps": 12, "size": SIZE, "num": 2, "progress": progress}
    prompts = ["the sun", "a blue car", "a red heart"]
    watched = unclip_jax.inpaint(toy, images, masks, prompts, **call)
    del call["progress"]
    np.testing.assert_array_equal(watched, unclip_jax.inpaint(toy, images, masks, prompts, **call))
    # 12 steps down; going back by RePaint's ten levels, once, is a move up and ten down again.
    assert {total for stage, _, total in seen if stage == "decoder"} == {12 + 1 + 10}
    assert {stage for stage, *_ in seen} == {"prior_diffusion", "decoder"}
    assert all(done == total for _, done, total in {s[0]: s for s in seen}.values())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"eta": 2.0}, "eta"),
        ({"invert_steps": 2}, "invert_steps"),
        ({"invert_steps": 1001}, "invert_steps"),
        ({"steps": 1}, "steps"),
        ({"size": 17}, "17"),
        ({"dtype": "int8"}, "dtype"),
        ({"num": 0}, "num"),
        ({"guidance": -1.0}, "guidance"),
    ],
)
def test_bad_settings_are_one_line(toy, images, call, words):
    with pytest.raises(UserError, match=words):
        unclip_jax.vary(toy, images, **call)


@pytest.fixture
def decoded(monkeypatch):
    """What is decoded of given latents; nothing is inverted or drawn."""
    rng, seen = np.random.default_rng(6), []
    given = {"z": [], "latent": []}

    def embed(model, images, *, dtype):
        given["z"].append(rng.standard_normal((len(images), DIM)).astype(np.float32))
        return given["z"][-1]

    def invert(model, images, image_emb, plan, monitor):
        shape = (len(images), SIZE, SIZE, 3)
        given["latent"].append(rng.standard_normal(shape).astype(np.float32))
        return given["latent"][-1]

    def record(model, image_emb, keys, plan, *, latent=None, monitor):
        seen.append((image_emb, latent))
        return np.zeros((len(image_emb), SIZE, SIZE, 3), np.uint8)

    for name, function in {"encode_images": embed, "invert": invert, "decode": record}.items():
        monkeypatch.setattr(manipulate, name, function)
    return given, seen


def test_interpolation_turns_z_i_and_x_t_alike(toy, images, decoded):
    """Both by the paper's slerp, also in the middle, where a straight line is shorter."""
    given, seen = decoded
    unclip_jax.interpolate(toy, images[:2], images[1:], frames=3, **FAST)
    ((image_emb, latent),) = seen
    for pair in range(2):
        for frame, theta in enumerate((0.0, 0.5, 1.0)):
            for found, ends in ((image_emb, given["z"]), (latent, given["latent"])):
                a, b = (end[pair].ravel() for end in ends)
                expected = oracle(a, b, theta)
                np.testing.assert_allclose(
                    found[3 * pair + frame].ravel(), expected, rtol=1e-4, atol=1e-4
                )


def test_an_edit_goes_from_one_text_toward_the_other_by_half(toy, images, decoded):
    """z_d = (z_t - z_t0) / |z_t - z_t0| of unit embeddings (unCLIP 3.3); x_T stays."""
    given, seen = decoded
    to, source = ["the sun", "a blue car"], ["a dog face", "a red heart"]
    unclip_jax.edit(toy, images[:2], to, source=source, frames=3, **FAST)
    ((image_emb, latent),) = seen
    (z,), (x,) = given["z"], given["latent"]
    ends = [np.float64(unclip_jax.embed_text(toy, texts).text_emb) for texts in (to, source)]
    ends = [e / np.linalg.norm(e, axis=1, keepdims=True) for e in ends]
    direction = ends[0] - ends[1]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    for i in range(2):
        goal = direction[i] * np.linalg.norm(z[i])
        for frame, theta in enumerate((0.0, 0.25, 0.5)):
            expected = oracle(z[i], goal, theta)
            np.testing.assert_allclose(image_emb[3 * i + frame], expected, atol=1e-4)
            np.testing.assert_array_equal(latent[3 * i + frame], x[i])
    assert manipulate.edit_thetas(1, 0.4).tolist() == [0.4]


def test_a_second_batch_has_its_own_rows(toy, images, monkeypatch):
    """Nine pictures on eight devices, one each: the ninth is what it is alone."""
    monkeypatch.setattr(parallel, "BATCH_LIMIT", 1)
    rng, monitor = np.random.default_rng(7), Monitor()
    nine = rng.integers(0, 256, (9, SIZE, SIZE, 3)).astype(np.uint8)
    z = rng.standard_normal((9, DIM)).astype(np.float32)
    keys = image_keys(root(), range(9), [0] * 9)
    plan = resolve_latents(toy, LatentSettings(**FAST), eta=1.0)
    whole, last = (latents.invert(toy, nine[s], z[s], plan, monitor) for s in (ALL, LAST))
    np.testing.assert_allclose(whole[LAST], last, atol=1e-3)
    made, last = (
        latents.decode(toy, z[s], keys[s], plan, latent=whole[s], monitor=monitor)
        for s in (ALL, LAST)
    )
    np.testing.assert_allclose(made[LAST].astype(int), last, atol=1)
    # Of inpainting the keys too are the same for every third picture.
    monkeypatch.setattr(inpaint, "image_keys", lambda k, i, d: image_keys(k, i % 3, d))
    masks = np.zeros((3, SIZE, SIZE), bool)
    for i in range(3):
        masks[i, 3 + i : 9 + i, 5:] = True
    third, prompts = np.arange(9) % 3, np.array(["the sun", "a blue car", "a red heart"])
    filled = unclip_jax.inpaint(
        toy, images[third], masks[third], prompts[third].tolist(), resamples=2, steps=12, size=SIZE
    )
    np.testing.assert_allclose(filled[8].astype(int), filled[2], atol=1)
    assert (filled[8] != filled[0]).mean() > 0.5


def test_bad_paths_are_one_line(toy, images):
    calls = [({"frames": 0}, "frames"), ({"noise": "none"}, "noise"), ({"num": 2}, "one path")]
    for call, words in calls:
        with pytest.raises(UserError, match=words):
            unclip_jax.interpolate(toy, images[:1], images[1:2], **call)
    with pytest.raises(UserError, match="do not pair up"):
        unclip_jax.interpolate(toy, images[:1], images)
    with pytest.raises(UserError, match="max_theta"):
        unclip_jax.edit(toy, images, "the sun", max_theta=1.5)
