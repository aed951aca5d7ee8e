"""Probes of ratings and of preferences, against least squares, refits and scipy."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import optimize

from unclip_jax.core.errors import UserError
from unclip_jax.evals import ratings
from unclip_jax.evals.ratings import (
    choose_penalty,
    correlation,
    fit_preference,
    fit_ridge,
    held_out_margins,
    r_squared,
    read_ratings,
)


def data(n=40, d=6, seed=0):
    """Returns unit vectors of uneven length, and ratings that are linear in them but for noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d)) + 0.5
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    true = z @ rng.normal(size=d) + 3.0 + 0.3 * rng.normal(size=n)
    return z, true


def least_squares(z, r, penalty):
    """Ridge with a free offset as one least-squares problem; returns weights and offset."""
    n, d = z.shape
    rows = np.vstack([np.c_[z, np.ones(n)], np.c_[np.sqrt(n * penalty) * np.eye(d), np.zeros(d)]])
    solved = np.linalg.lstsq(rows, np.r_[r, np.zeros(d)], rcond=None)[0]
    return solved[:-1], solved[-1]


@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 0.1])
def test_ridge_is_penalized_least_squares_of_unit_rows(monkeypatch, penalty):
    monkeypatch.setattr(ratings, "PENALTIES", (penalty,))
    z, r = data()
    lengths = np.random.default_rng(1).uniform(0.5, 20.0, (len(z), 1))
    probe, chosen = fit_ridge(z * lengths, r)
    weights, offset = least_squares(z, r, penalty)
    assert chosen == penalty
    np.testing.assert_allclose(probe.weights, weights, atol=1e-9)
    np.testing.assert_allclose(probe(3.0 * z), z @ weights + offset, atol=1e-9)


def test_the_penalty_has_the_least_leave_one_out_error():
    """Found here by leaving each out and refitting; many columns, so that the ends are bad."""
    z, r = data(n=24, d=16, seed=3)
    errors = []
    for penalty in ratings.PENALTIES:
        left_out = []
        for i in range(len(z)):
            rest = np.arange(len(z)) != i
            # The same absolute penalty: n counts all rows in the shortcut.
            weights, offset = least_squares(z[rest], r[rest], penalty * len(z) / (len(z) - 1))
            left_out.append((z[i] @ weights + offset - r[i]) ** 2)
        errors.append(np.mean(left_out))
    assert fit_ridge(z, r)[1] == ratings.PENALTIES[int(np.argmin(errors))]
    assert 0 < np.argmin(errors) < len(errors) - 1


def test_r_squared_and_correlation():
    true, predicted = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.5, 2.0, 2.0, 5.5])
    assert r_squared(true, predicted) == pytest.approx(1 - (0.25 + 1 + 0.25) / 14)
    assert r_squared(true, np.full(4, 3.0)) == 0.0
    assert correlation(true, predicted) == pytest.approx(np.corrcoef(true, predicted)[0, 1])
    assert correlation(true, np.ones(4)) == 0.0


def judgements(n=60, d=4, seed=0):
    rng = np.random.default_rng(seed)
    pairs = rng.normal(size=(2, n, d))
    pairs /= np.linalg.norm(pairs, axis=-1, keepdims=True)
    return pairs[0], pairs[1]


def test_the_proxy_is_the_papers_likelihood():
    """P(y preferred) = 1 / (1 + exp(f(x) - f(y))), minimized by scipy."""
    preferred, other = judgements()

    def loss(w):
        chance = 1.0 / (1.0 + np.exp(other @ w - preferred @ w))
        return -np.log(chance).mean() + 0.5 * 0.01 * np.sum(w**2)

    expected = optimize.minimize(loss, np.zeros(4), tol=1e-12).x
    np.testing.assert_allclose(fit_preference(preferred, other, 0.01).weights, expected, atol=1e-4)


def test_a_question_is_not_in_its_own_fit():
    """Two raters agree on what is random: nothing can be learned of other questions."""
    preferred, other = judgements(n=30, d=40, seed=5)
    twice = [np.concatenate([side, side]) for side in (preferred, other)]
    questions = [str(i) for i in range(30)] * 2
    margins = held_out_margins(*twice, questions, 1e-6)
    assert 0.25 < np.mean(margins > 0) < 0.75


def test_what_can_be_learned_is_found_on_other_questions():
    one, two = judgements(n=100, seed=2)
    better = one[:, :1] > two[:, :1]
    preferred, other = np.where(better, one, two), np.where(better, two, one)
    penalty, margins = choose_penalty(preferred, other, [str(i) for i in range(100)])
    assert penalty < 1.0 and np.mean(margins > 0) > 0.9


def write_table(folder, count=20, **fields):
    rows = [{"image": f"{i}.png", "rating": i % 7} | fields for i in range(count)]
    path = folder / "ratings.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_table_is_read_beside_its_images(tmp_path):
    rated = read_ratings(write_table(tmp_path))
    assert rated.paths[3] == tmp_path / "3.png"
    assert list(rated.ratings[:8]) == [0, 1, 2, 3, 4, 5, 6, 0]
    table = tmp_path / "ratings.csv"
    table.write_text("path,rating\n" + "".join(f"a/{i}.png,{i}.5\n" for i in range(20)))
    rated = read_ratings(table)
    assert (rated.paths[2], rated.ratings[2]) == (tmp_path / "a" / "2.png", 2.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rating": "good"}, "row 1: field 'rating' must be a number, not 'good'"),
        ({"rating": None}, "must be a number"),
        ({"rating": "nan"}, "must be a number"),
        ({"rating": True}, "must be a number"),
        ({"rating": 3}, "not all one"),
        ({"image": ""}, "row 1: none of image"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        read_ratings(write_table(tmp_path, **fields))


def test_few_ratings_or_another_kind_of_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="has 3 ratings; it takes 20"):
        read_ratings(write_table(tmp_path, count=3))
    with pytest.raises(UserError, match="takes a table"):
        read_ratings(tmp_path / "ratings.parquet")


def test_a_damaged_image_is_named(tmp_path):
    rated = read_ratings(write_table(tmp_path))
    for path in rated.paths:
        Image.new("RGB", (4, 4)).save(path)
    rated.paths[7].write_bytes(b"no image")
    with pytest.raises(UserError, match=r"7\.png: not a readable image"):
        ratings.load_rated(rated, None, 8, None)
