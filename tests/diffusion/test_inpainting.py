"""RePaint against the closed form of a correlated Gaussian, its transitions and exact keeping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.gaussian import MU, S2, exact_denoiser
from tests.oracles import ddim_chain
from unclip_jax.diffusion.config import DiffusionConfig
from unclip_jax.diffusion.denoiser import Denoised
from unclip_jax.diffusion.inpainting import renoise, repaint_along, repaint_transitions
from unclip_jax.diffusion.schedules import CLEAN, make_schedule, respaced_steps

SCHEDULE = make_schedule("cosine", 1000)
STEPS = respaced_steps(1000, 20)
RHO, COUNT = 0.9, 4000


def published_schedule(length, jump, resamples):
    """The published RePaint's visits (its algorithm of jumps), as numbers of levels still to go."""
    left = {j: resamples - 1 for j in range(0, length - jump, jump)}
    t, visits = length, [length]
    while t >= 1:
        t -= 1
        visits.append(t)
        if left.get(t, 0) > 0:
            left[t] -= 1
            for _ in range(jump):
                t += 1
                visits.append(t)
    return visits


@pytest.mark.parametrize(("jump", "resamples"), [(1, 1), (3, 2), (5, 4), (30, 3)])
def test_transitions_are_repaints(jump, resamples):
    transitions = repaint_transitions(STEPS, 1000, jump=jump, resamples=resamples)
    assert transitions[0, 0] == STEPS[0] and transitions[-1, 1] == CLEAN
    np.testing.assert_array_equal(
        transitions[1:, 0], transitions[:-1, 1]
    )  # each begins where one ended
    # Ours goes back in one move; there level index 0 is the last noisy one, as in the reference.
    place = {int(t): len(STEPS) - 1 - i for i, t in enumerate(STEPS)}
    ours = [place[int(transitions[0, 0])]]
    for a, b in transitions[:-1]:
        here, there = place[int(a)], place[int(b)]
        ours += [there] if there < here else list(range(here + 1, there + 1))
    assert ours == published_schedule(len(STEPS) - 1, jump, resamples)
    assert len(repaint_transitions(STEPS, 1000, jump=3, resamples=1)) == len(STEPS)


def correlated(x, t):
    """E[x_0 | x_t] for pairs N(0, [[1, rho], [rho, 1]]): alpha S (alpha^2 S + sigma^2 I)^-1 x_t."""
    level = SCHEDULE.level(t[0], x.dtype)
    cov = jnp.asarray([[1.0, RHO], [RHO, 1.0]])
    whole = level.alpha**2 * cov + level.sigma**2 * jnp.eye(2)
    return Denoised(x0=(level.alpha * cov @ jnp.linalg.solve(whole, x.T)).T)


def noise_of(seed):
    keys = jax.random.split(jax.random.key(seed), 2000)
    return lambda index, shape: jax.random.normal(keys[index], shape)


def fill(resamples, chunks=1):
    transitions = repaint_transitions(STEPS, 1000, jump=5, resamples=resamples)
    known = jnp.broadcast_to(jnp.asarray([[1.5, 0.0]]), (COUNT, 2))
    where = jnp.broadcast_to(jnp.asarray([[False, True]]), (COUNT, 2))
    x = jax.random.normal(jax.random.key(9), (COUNT, 2))

    @jax.jit
    def run(x, span):
        return repaint_along(
            correlated, x, known, where, transitions, SCHEDULE, noise_of(1), span=span
        )

    for part in np.array_split(np.arange(len(transitions)), chunks):
        x = run(x, (part[0], part[-1] + 1))
    return np.asarray(x)


def test_resampling_brings_the_filled_part_to_its_conditional_mean():
    """Given the first of a pair, the second is N(rho first, 1 - rho^2)."""
    plain, resampled = fill(1), fill(10)
    np.testing.assert_array_equal(plain[:, 0], 1.5)
    np.testing.assert_array_equal(resampled[:, 0], 1.5)
    errors = [abs(x[:, 1].mean() - RHO * 1.5) for x in (plain, resampled)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.15  # of the plain replacement's 0.4 and more
    assert resampled[:, 1].std() == pytest.approx((1 - RHO**2) ** 0.5, rel=0.25)


def test_kept_data_is_noised_to_the_level_reached():
    transitions = repaint_transitions(STEPS, 1000, jump=5, resamples=1)[:12]
    known, kept = jnp.full((COUNT, 2), 1.5), jnp.zeros((COUNT, 2), bool)
    x = repaint_along(
        correlated, jnp.zeros((COUNT, 2)), known, kept, transitions, SCHEDULE, noise_of(2)
    )
    level = SCHEDULE.level(int(transitions[-1, 1]), jnp.float32)
    assert np.asarray(x).mean() == pytest.approx(1.5 * float(level.alpha), abs=0.03)
    assert np.asarray(x).std() == pytest.approx(float(level.sigma), rel=0.03)


def test_chunks_are_the_same_run():
    np.testing.assert_allclose(fill(2, chunks=3), fill(2), atol=1e-5)


def test_renoising_has_the_forward_process_moments():
    t, s = SCHEDULE.level(300, jnp.float32), SCHEDULE.level(600, jnp.float32)
    x0, n = 0.8, 20000
    a, b = (jax.random.normal(jax.random.key(i), (n, 1), jnp.float32) for i in (0, 1))
    x_t = t.alpha * x0 + t.sigma * a
    x_s = np.asarray(renoise(x_t, t, s, b))
    assert x_s.mean() == pytest.approx(float(s.alpha) * x0, abs=0.02)
    assert x_s.std() == pytest.approx(float(s.sigma), rel=0.02)
    np.testing.assert_allclose(renoise(x_t, t, t, b), x_t, atol=1e-3)


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="jump"):
        repaint_transitions(STEPS, 1000, jump=0, resamples=1)
    with pytest.raises(ValueError, match="resamples"):
        repaint_transitions(STEPS, 1000, jump=1, resamples=0)


def test_where_nothing_is_kept_it_is_ancestral_sampling():
    """As an affine form of x_T and of each move's first noise, against DDIM at eta 1."""
    steps = np.array([999, 700, 401, 133, 7])
    transitions = repaint_transitions(steps, 1000, jump=1, resamples=1)
    rows = len(steps) + 2  # nothing; x_T = 1; each step's noise = 1

    def noise(index, shape):
        return (jnp.arange(shape[0], dtype=jnp.int32) == index // 2 + 2).astype(float)[:, None]

    x = jnp.eye(rows)[1][:, None]
    denoise = exact_denoiser(SCHEDULE, DiffusionConfig(prediction="x0"))
    where = jnp.ones((rows, 1), bool)
    out = repaint_along(denoise, x, jnp.zeros((rows, 1)), where, transitions, SCHEDULE, noise)
    out = np.asarray(out)[:, 0]
    form = np.concatenate([out[:1], out[1:] - out[0]])
    expected = ddim_chain(SCHEDULE.alpha_bar[steps], MU, S2, eta=1.0)
    np.testing.assert_allclose(form, expected, atol=1e-6)
