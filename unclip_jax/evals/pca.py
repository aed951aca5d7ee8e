"""How many principal components the embedding space of a CLIP really has.

The paper's CLIP, trained with SAM, needs 319 of 1,024 for 99% of the variance. A second bundle
(`--judge`) is measured beside the first: with and without SAM, for instance.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.evals.examples import load_examples
from unclip_jax.evals.metrics import Figure, mean_figure, normalise
from unclip_jax.evals.retrieval import clip_size, embed_images
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import Pca, components_for, explained_variance, fit_pca, keep
from unclip_jax.models.pca import unit_moments as moments

SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
PICTURE = "pca_variance.png"


def pca(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Fits the PCA of the training pictures; also draws the curve if a folder is given.

    Returns `components_99` and others (of the width, their floor is none), the effective rank
    (exponential of the eigenvalues' entropy), and for held-out pictures the squared distance to
    their reconstruction from the components that hold 99%, as a share of their variance.
    """
    figures, curves = {}, {}
    for prefix, held in (("", model), ("judge/", settings.judge)):
        if held is None:
            continue
        size = clip_size(held)
        train = load_examples(settings, "train", size=size, limit=settings.limit)
        fitted = fit_pca(moments(embed_images(held, train.images)))
        found = spectrum_figures(fitted, len(train))
        count = components_for(fitted, 0.99)
        for split in settings.splits:
            examples = load_examples(settings, split, size=size, limit=settings.limit)
            lost = residual(fitted, embed_images(held, examples.images), count)
            groups = np.asarray(examples.concepts)
            found[f"{split}/residual_99"] = mean_figure(lost, groups=groups, floor=0.01)
        figures |= {f"{prefix}{name}": figure for name, figure in found.items()}
        curves[f"{held.name} ({fitted.width} wide)"] = explained_variance(fitted)
    if settings.pictures is not None:
        plot_variance(settings.pictures / PICTURE, curves)
    return figures


def spectrum_figures(fitted: Pca, examples: int) -> dict[str, Figure]:
    """Returns how many components hold which share, and the effective rank."""
    figures = {
        f"components_{100 * share:g}": Figure(
            float(components_for(fitted, share)), None, None, examples
        )
        for share in SHARES
    }
    values = np.asarray(fitted.eigenvalues, np.float64)
    share = values[values > 0] / values.sum()
    rank = float(np.exp(-(share * np.log(share)).sum()))
    return {**figures, "effective_rank": Figure(rank, None, None, examples)}


def residual(
    fitted: Pca, image_emb: Float[np.ndarray, "n d"], dims: int
) -> Float[np.ndarray, " n"]:
    """Returns each embedding's squared distance to its first components, over the mean spread."""
    unit = normalise(image_emb)
    lost = np.square(unit - np.asarray(keep(fitted, image_emb, dims), np.float64)).sum(1)
    return lost / np.square(unit - unit.mean(axis=0)).sum(axis=1).mean()


def plot_variance(path: Path, curves: Mapping[str, Float[np.ndarray, " k"]]) -> None:
    """Draws the share of the variance over the number of components, and where 99% is reached."""
    import matplotlib.figure  # slow to import, and only needed here

    figure = matplotlib.figure.Figure(figsize=(6.0, 3.6), layout="constrained")
    ax = figure.subplots()
    for label, shares in curves.items():
        counts = np.arange(1, len(shares) + 1)
        at = int(np.searchsorted(shares, 0.99)) + 1
        line = ax.plot(counts, shares, label=f"{label}: 99% by {at}")[0]
        ax.axvline(at, color=line.get_color(), linestyle=":", linewidth=1)
    ax.axhline(0.99, color="0.6", linewidth=1)
    ax.set_xlabel("components")
    ax.set_ylabel("share of the variance")
    ax.set_xscale("log")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=120)
