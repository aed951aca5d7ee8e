"""How many principal components the embedding space of a CLIP really has, and what codes lose.

The paper's CLIP, trained with SAM, needs 319 of 1,024 for 99% of the variance. A second bundle
(`--judge`) is measured beside the first: with and without SAM, for instance.

An autoregressive prior writes embeddings in codes of its own principal components; what its codec
loses, on training and held-out pictures, is part of the suite where a bundle has that prior.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.evals.examples import Examples, load_examples
from unclip_jax.evals.metrics import Figure, mean_figure, normalize
from unclip_jax.evals.outputs import PCA_CURVE
from unclip_jax.evals.retrieval import clip_size, embed_images
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import Pca, components_for, explained_variance, fit_pca, keep
from unclip_jax.models.pca import unit_moments as moments
from unclip_jax.models.pca_codec import codec_of, round_trip

SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)


def pca(model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Fits the PCA of the training pictures; also draws the curve if a folder is given.

    Returns `components_99` and others (of the width, their floor is none), the effective rank
    (exponential of the eigenvalues' entropy), and for held-out pictures the squared distance to
    their reconstruction from the components that hold 99%, as a share of their variance. Of a
    bundle with prior_ar also `codec/SPLIT/…`, see `codec_figures`.
    """
    figures, curves = {}, {}
    for prefix, held in (("", model), ("judge/", settings.judge)):
        if held is None:
            continue
        size = clip_size(held)
        train = load_examples(settings, "train", model=held, size=size, limit=settings.limit)
        train_emb = embed_images(held, train.images, settings.report)
        fitted = fit_pca(moments(train_emb))
        found = spectrum_figures(fitted, len(train))
        found |= codec_figures(held, "train", train, train_emb)
        count = components_for(fitted, 0.99)
        for split in settings.splits:
            examples = load_examples(settings, split, model=held, size=size, limit=settings.limit)
            image_emb = embed_images(held, examples.images, settings.report)
            lost = residual(fitted, image_emb, count)
            groups = np.asarray(examples.concepts)
            found[f"{split}/residual_99"] = mean_figure(lost, groups=groups, floor=0.01)
            found |= codec_figures(held, split, examples, image_emb)
        figures |= {f"{prefix}{name}": figure for name, figure in found.items()}
        curves[f"{held.name} ({fitted.width} wide)"] = explained_variance(fitted)
    if settings.pictures is not None:
        plot_variance(settings.pictures / PCA_CURVE, curves)
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
    unit = normalize(image_emb)
    lost = np.square(unit - np.asarray(keep(fitted, image_emb, dims), np.float64)).sum(1)
    return lost / np.square(unit - unit.mean(axis=0)).sum(axis=1).mean()


def codec_figures(
    model: Bundle, split: str, examples: Examples, image_emb: Float[np.ndarray, "n d"]
) -> dict[str, Figure]:
    """Returns what the codec of the bundle's prior_ar loses of a split; nothing without that prior.

    `codec/SPLIT/error` is |u - z'|^2 of unit embeddings u encoded and decoded, as a share of their
    variance in the split (floor: the paper's 1%); `error_dropped` and `error_buckets` are its parts
    by the components that are not kept and by the buckets, but for the last step to unit length.
    `cosine` is that of u and z', `outside` the share of coordinates beyond the outermost edges.
    """
    if "prior_ar" not in model.stages:
        return {}
    stage = model.stage("prior_ar")
    trip = round_trip(codec_of(stage.params), stage.spec.model.codec, image_emb)
    unit, groups = normalize(image_emb), np.asarray(examples.concepts)
    spread = np.square(unit - unit.mean(axis=0)).sum(axis=1).mean()
    shares = {"error": trip.lost, "error_dropped": trip.dropped, "error_buckets": trip.bucketed}
    shares = {name: np.asarray(lost, np.float64) / spread for name, lost in shares.items()}
    shares |= {"cosine": np.asarray(trip.cosine), "outside": np.asarray(trip.outside)}
    return {
        f"codec/{split}/{name}": mean_figure(
            values, groups=groups, floor=0.01 if name == "error" else None
        )
        for name, values in shares.items()
    }


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
