"""Exact answers in float64 NumPy, written from the papers and importing nothing of ours.

Data of one coordinate is N(mu, s2); a_t is alpha_bar_t throughout. With the exact denoiser every
sampler is affine in its start and its noises, so a whole chain is known in closed form: a quantity
is a vector [constant, coefficient of x_T, coefficients of the noises], and steps are linear
algebra.
"""

import numpy as np
from scipy import stats


def cosine_alpha_bar(T):
    """Nichol & Dhariwal 2021, eq. 17, beta capped at 0.999, term by term."""
    bar, product = [], 1.0
    for i in range(T):
        f0 = np.cos((i / T + 0.008) / 1.008 * np.pi / 2) ** 2
        f1 = np.cos(((i + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
        product *= 1.0 - min(1.0 - f1 / f0, 0.999)
        bar.append(product)
    return np.array(bar)


def gaussian_x0(a_t, mu, s2):
    """(slope, offset) of E[x_0 | x_t] for x_0 ~ N(mu, s2), by Bayes with precisions."""
    # x_t / sqrt(a) is x_0 plus noise of variance (1 - a) / a.
    noise = (1.0 - a_t) / a_t
    precision = 1.0 / s2 + 1.0 / noise
    return 1.0 / noise / precision / np.sqrt(a_t), mu / s2 / precision


def gaussian_x0_variance(a_t, s2):
    """Var[x_0 | x_t], the least squared error of any denoiser."""
    return 1.0 / (1.0 / s2 + a_t / (1.0 - a_t))


def bayes_posterior(a_t, a_s):
    """(x_0 weight, x_t weight, variance) of q(x_s | x_t, x_0), by multiplying two Gaussians.

    Prior x_s ~ N(sqrt(a_s) x_0, 1 - a_s); likelihood x_t ~ N(sqrt(a_t/a_s) x_s, 1 - a_t/a_s).
    """
    if a_s == 1.0:
        return 1.0, 0.0, 0.0
    scale, noise = np.sqrt(a_t / a_s), 1.0 - a_t / a_s
    precision = 1.0 / (1.0 - a_s) + scale**2 / noise
    return np.sqrt(a_s) / (1.0 - a_s) / precision, scale / noise / precision, 1.0 / precision


def ddpm_std(kind, a_t, a_s, *, fraction=None, x0_variance=None):
    """Standard deviation of an ancestral step."""
    if a_s == 1.0:
        return 0.0
    x0_weight, _, small = bayes_posterior(a_t, a_s)
    large = 1.0 - a_t / a_s
    if kind == "fixed_small":
        return np.sqrt(small)
    if kind == "fixed_large":
        return np.sqrt(large)
    if kind == "learned_range":
        return np.exp(0.5 * (fraction * np.log(large) + (1.0 - fraction) * np.log(small)))
    return np.sqrt(small + x0_weight**2 * x0_variance)


def ddpm_chain(levels, mu, s2, kind, *, fraction=None):
    """The clean sample of ancestral sampling over descending levels, as an affine form."""
    n = len(levels)
    x = np.eye(n + 2)[1]
    for k, (a_t, a_s) in enumerate(zip(levels, [*levels[1:], 1.0], strict=True)):
        slope, offset = gaussian_x0(a_t, mu, s2)
        x0 = slope * x
        x0[0] += offset
        w0, wt, _ = bayes_posterior(a_t, a_s)
        x = w0 * x0 + wt * x
        x0_variance = gaussian_x0_variance(a_t, s2)
        x[k + 2] += ddpm_std(kind, a_t, a_s, fraction=fraction, x0_variance=x0_variance)
    return x


def ddim_chain(levels, mu, s2, eta):
    """The clean sample of DDIM (Song et al. 2021, eq. 12 and 16), as an affine form."""
    n = len(levels)
    x = np.eye(n + 2)[1]
    for k, (a_t, a_s) in enumerate(zip(levels, [*levels[1:], 1.0], strict=True)):
        slope, offset = gaussian_x0(a_t, mu, s2)
        x0 = slope * x
        x0[0] += offset
        eps = (x - np.sqrt(a_t) * x0) / np.sqrt(1.0 - a_t)
        v = eta * np.sqrt((1.0 - a_s) / (1.0 - a_t)) * np.sqrt(1.0 - a_t / a_s)
        x = np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s - v**2) * eps
        x[k + 2] += v
    return x


def dpmpp_2m_chain(levels, mu, s2):
    """The clean sample of DPM-Solver++(2M) (Lu et al. 2022, alg. 2), first order at both ends."""
    n = len(levels)
    x, before, lam_before = np.eye(n + 2)[1], None, None
    for a_t, a_s in zip(levels, [*levels[1:], 1.0], strict=True):
        slope, offset = gaussian_x0(a_t, mu, s2)
        x0 = slope * x
        x0[0] += offset
        if a_s == 1.0:
            return x0
        lam_t, lam_s = (0.5 * np.log(a / (1.0 - a)) for a in (a_t, a_s))
        h = lam_s - lam_t
        D = x0
        if before is not None:
            r = (lam_t - lam_before) / h
            D = (1.0 + 1.0 / (2.0 * r)) * x0 - 1.0 / (2.0 * r) * before
        x = np.sqrt((1.0 - a_s) / (1.0 - a_t)) * x - np.sqrt(a_s) * np.expm1(-h) * D
        before, lam_before = x0, lam_t
    raise AssertionError("unreachable")


def moments(form, mean, variance):
    """Mean and variance of an affine form, for a start N(mean, variance) and standard noises."""
    return form[0] + form[1] * mean, form[1] ** 2 * variance + np.sum(form[2:] ** 2)


def flow(x, a_t, a_s, mu, s2):
    """Carries x along the exact probability-flow ODE from level a_t to a_s: quantiles are kept."""

    def std(a):
        return np.sqrt(a * s2 + 1.0 - a)

    return np.sqrt(a_s) * mu + (x - np.sqrt(a_t) * mu) * std(a_s) / std(a_t)


def normal_kl(mean1, var1, mean2, var2):
    """KL(N1 || N2) in nats as E_1[log N1 - log N2], from entropy and cross-entropy."""
    entropy = 0.5 * np.log(2.0 * np.pi * np.e * var1)
    cross = 0.5 * np.log(2.0 * np.pi * var2) + (var1 + (mean1 - mean2) ** 2) / (2.0 * var2)
    return cross - entropy


def pixel_nll(x0, mean, std):
    """-log mass of an 8-bit value's bin under N(mean, std^2), nats; end bins reach to infinity."""
    level = np.rint((x0 + 1.0) * 127.5)
    low = np.where(level == 0, -np.inf, x0 - 1.0 / 255.0)
    high = np.where(level == 255, np.inf, x0 + 1.0 / 255.0)
    mass = stats.norm.cdf(high, mean, std) - stats.norm.cdf(low, mean, std)
    return -np.log(np.maximum(mass, 1e-12))
