"""The priors suite by construction: keys by example, every training caption, no false intervals."""

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner

from tests.toy import SIZE, toy_bundle
from unclip_jax.cli.evaluate import evaluate
from unclip_jax.core.errors import UserError
from unclip_jax.evals import conditioning, gallery, prior_pictures, priors
from unclip_jax.evals.examples import Examples
from unclip_jax.evals.settings import Settings

CAPTIONS = ["a red heart", "the sun", "a dog face", "a blue car", "a cat face"]
SETTINGS = Settings("none", splits=("test",), batch=2)


@pytest.fixture(scope="module")
def model():
    return toy_bundle()


@pytest.fixture(scope="module")
def drawn(model):
    return priors.sample_prior(model, CAPTIONS, SETTINGS)


def test_embeddings_do_not_depend_on_the_batch(model, drawn):
    whole = priors.sample_prior(model, CAPTIONS, dataclasses.replace(SETTINGS, batch=5))
    np.testing.assert_allclose(whole, drawn, atol=1e-4)
    assert np.abs(np.diff(drawn, axis=0)).max(axis=1).min() > 1e-2


def test_a_draw_of_one_seed_is_no_draw_of_another(model, drawn):
    other = dataclasses.replace(SETTINGS, seed=1)
    first_of_1 = priors.sample_prior(model, CAPTIONS, other)
    second_of_0 = priors.sample_prior(model, CAPTIONS, SETTINGS, draw=1)
    for a, b in ((first_of_1, second_of_0), (second_of_0, drawn), (first_of_1, drawn)):
        assert np.abs(a - b).max(axis=1).min() > 1e-2


def test_the_upsamplers_psnr_does_not_depend_on_the_batch(model):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    small = images[:, ::2, ::2]
    found = [
        conditioning.upsampler_psnr(
            model, "upsampler_256", images, small, dataclasses.replace(SETTINGS, batch=batch)
        )["upsampler_256/psnr"].value
        for batch in (2, 3)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_three_timings_are_no_interval(model, monkeypatch):
    monkeypatch.setattr(priors, "sample_prior", lambda *args: None)
    figures = priors.cost_figures(model, "prior_diffusion", SETTINGS)
    assert (figures["seconds"].low, figures["seconds"].high) == (None, None)
    assert figures["seconds_min"].value <= figures["seconds"].value <= figures["seconds_max"].value


VECTORS = {"fruit": 0, "an apple": 1, "a bird": 2, "an owl": 3}


def one_hot(index):
    return np.eye(8)[np.asarray(index)]


def test_the_nearest_caption_is_sought_among_all_captions(model, monkeypatch):
    """The held-out caption is the second one of a training image, whose z_i is the true one."""
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    images[1] = 6
    train = Examples(
        images + 5, (("fruit", "an apple"), ("a bird", "an owl")), ("a", "b"), ("", "")
    )
    test = Examples(images + 5, (("an apple",), ("an owl",)), ("a", "b"), ("", ""))
    monkeypatch.setattr(
        priors, "load_examples", lambda s, split, **k: train if split == "train" else test
    )
    monkeypatch.setattr(priors, "embed_images", lambda m, i, *rest: one_hot(i[:, 0, 0, 0] % 8))
    monkeypatch.setattr(
        priors, "embed_captions", lambda m, texts, *rest: one_hot([VECTORS[t] for t in texts])
    )
    monkeypatch.setattr(priors, "sample_prior", lambda *args: one_hot([7, 7]) + 0.1)
    monkeypatch.setattr(priors, "cost_figures", lambda *args: {})
    stages = {name: s for name, s in model.stages.items() if name != "decoder"}
    figures = priors.priors(dataclasses.replace(model, stages=stages), SETTINGS)
    assert figures["test/cosine_nearest_caption"].value == pytest.approx(1.0)


def test_decoded_captions_are_a_random_subset(model, monkeypatch):
    count = 40
    examples = Examples(
        np.zeros((count, SIZE, SIZE, 3), np.uint8),
        tuple((f"caption {i}",) for i in range(count)),
        tuple(str(i) for i in range(count)),
        ("",) * count,
    )
    asked = []

    def sample(model, captions, **settings):
        asked.append([int(caption.split()[1]) for caption in captions])
        return np.zeros((len(captions), SIZE, SIZE, 3), np.uint8)

    noise = np.random.default_rng(0).standard_normal((count, 8))
    monkeypatch.setattr(prior_pictures.api, "sample", sample)
    monkeypatch.setattr(
        prior_pictures, "embed_images", lambda m, images, *rest: noise[: len(images)]
    )
    monkeypatch.setattr(
        prior_pictures, "embed_captions", lambda m, texts, *rest: noise[: len(texts)]
    )
    for seed in (0, 1, 0):
        settings = dataclasses.replace(SETTINGS, prompts=8, seed=seed)
        prior_pictures.decoded_figures(model, examples, settings)
    per_run = len(asked) // 3
    first, other, again = asked[0], asked[per_run], asked[2 * per_run]
    assert len(set(first)) == 8 and first == again == asked[per_run - 1]
    assert max(first) >= 8 and first != other


def test_decoded_pictures_are_compared_with_caption_and_picture(model, monkeypatch):
    """By construction: 0.6 along the true picture's embedding and 0.8 along the caption's."""
    shape = np.ones((1, SIZE, SIZE, 3), np.uint8)
    number = np.arange(4, dtype=np.uint8)[:, None, None, None]
    captions = tuple((f"caption {i}",) for i in range(4))
    examples = Examples(number * shape, captions, tuple("abcd"), ("",) * 4)
    true, text = np.eye(8)[:4], np.eye(8)[4:]

    def embed(judge, images, report):
        at = images[:, 0, 0, 0].astype(int)
        return np.where(at[:, None] < 4, true[at % 4], 0.6 * true[at % 4] + 0.8 * text[at % 4])

    def embed_texts(judge, texts, report):
        return np.stack([text[int(t.split()[1])] for t in texts])

    monkeypatch.setattr(prior_pictures.api, "sample", lambda *a, **k: (4 + number) * shape)
    monkeypatch.setattr(prior_pictures, "embed_images", embed)
    monkeypatch.setattr(prior_pictures, "embed_captions", embed_texts)
    figures = prior_pictures.decoded_figures(model, examples, SETTINGS)
    for source in ("none", "text", "diffusion"):
        score = figures[f"{source}/clip_score"]
        assert (score.value, score.floor) == (pytest.approx(0.8), pytest.approx(0.0))
        assert figures[f"{source}/cosine_true"].value == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("suite", "name"),
    [
        ("priors", "priors_pictures.png"),
        ("pca", "pca_variance.png"),
        ("gallery", "fig5_text_diffs.png"),
    ],
)
def test_a_taken_name_fails_before_the_work(tmp_path, suite, name):
    """So early that the bundle, which does not exist, is not asked for."""
    (tmp_path / name).write_text("mine")
    args = ["--model", "no_such_model", "--data", "shapes", "--out", str(tmp_path)]
    run = CliRunner().invoke(evaluate, [*args, "--suite", suite])
    assert isinstance(run.exception, UserError)
    assert f"{name} exists" in str(run.exception)
    assert (tmp_path / name).read_text() == "mine"


def test_the_names_known_before_are_those_written():
    from unclip_jax.evals.outputs import written_by

    assert set(gallery.FIGURES) < set(written_by("gallery"))
    assert {"priors.json", "priors.md", "priors.png"} < set(written_by("priors"))
