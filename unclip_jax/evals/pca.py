"""Effective dimension of a CLIP's embedding space, and the loss of the AR prior's codec.

The paper's CLIP, trained with SAM, needs 319 of 1,024 components for 99% of the variance. A second
bundle (`--eval-clip`) is measured too, e.g. to compare training with and without SAM.

An autoregressive prior quantizes the principal components of embeddings; for a bundle that has one,
the suite measures what its codec loses on training and held-out images.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.vectors import unit64
from unclip_jax.evals.examples import Examples, load_examples
from unclip_jax.evals.metrics import Metric, mean_metric
from unclip_jax.evals.outputs import PCA_CURVE
from unclip_jax.evals.settings import Settings
from unclip_jax.models.pca import Pca, components_for, explained_variance, fit_pca, keep
from unclip_jax.models.pca import unit_moments as moments
from unclip_jax.models.pca_codec import codec_of, round_trip

SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)


def pca(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Fits the PCA of the training images; also plots the curve if a folder is given.

    Returns:
        `components_99` and others, which have no baseline; `effective_rank`, the exponential of the
        eigenvalues' entropy; for held-out images `SPLIT/residual_99`, the squared distance to their
        reconstruction from the components that carry 99%, as a share of their variance; and for a
        bundle with prior_ar `codec/SPLIT/…`, see `codec_metrics`.
    """
    results, curves = {}, {}
    for prefix, bundle in (("", model), ("eval_clip/", settings.eval_clip)):
        if bundle is None:
            continue
        clip = settings.clip(bundle)
        load = functools.partial(
            load_examples, settings, model=bundle, size=clip.image_size, limit=settings.limit
        )
        train = load("train")
        train_emb = clip.images(train.images)
        fitted = fit_pca(moments(train_emb))
        found = spectrum_metrics(fitted, len(train))
        found |= codec_metrics(bundle, "train", train, train_emb)
        count = components_for(fitted, 0.99)
        for split in settings.splits:
            examples = load(split)
            image_emb = clip.images(examples.images)
            lost = residual(fitted, image_emb, count)
            groups = np.asarray(examples.concepts)
            found[f"{split}/residual_99"] = mean_metric(lost, groups=groups, baseline=0.01)
            found |= codec_metrics(bundle, split, examples, image_emb)
        results |= {f"{prefix}{name}": metric for name, metric in found.items()}
        curves[f"{bundle.name} ({fitted.width} wide)"] = explained_variance(fitted)
    if settings.image_folder is not None:
        plot_variance(settings.image_folder / PCA_CURVE, curves)
    return results


def spectrum_metrics(fitted: Pca, examples: int) -> dict[str, Metric]:
    """Returns the components needed for each share of the variance, and the effective rank."""
    results = {
        f"components_{100 * share:g}": Metric(
            float(components_for(fitted, share)), None, None, examples
        )
        for share in SHARES
    }
    values = np.asarray(fitted.eigenvalues, np.float64)
    share = values[values > 0] / values.sum()
    rank = float(np.exp(-(share * np.log(share)).sum()))
    return {**results, "effective_rank": Metric(rank, None, None, examples)}


def residual(
    fitted: Pca, image_emb: Float[np.ndarray, "n d"], dims: int
) -> Float[np.ndarray, " n"]:
    """Returns each embedding's squared reconstruction error as a share of the mean variance."""
    unit = unit64(image_emb)
    lost = np.square(unit - np.asarray(keep(fitted, image_emb, dims), np.float64)).sum(1)
    return lost / np.square(unit - unit.mean(axis=0)).sum(axis=1).mean()


def codec_metrics(
    model: Bundle, split: str, examples: Examples, image_emb: Float[np.ndarray, "n d"]
) -> dict[str, Metric]:
    """Returns what the codec of the bundle's prior_ar loses on a split; {} without that prior.

    `codec/SPLIT/error` is |u - z'|^2 of unit embeddings u and their decoded codes z', as a share of
    the variance in the split (baseline: the paper's 1%). `error_dropped` and `error_buckets` are
    its parts, due to the dropped components and to the buckets, before the final normalization.
    `cosine` is that of u and z', `outside` the share of coordinates beyond the outermost edges.
    """
    stages = [s for s in model.stages.values() if s.spec.model.embedding_codec is not None]
    if not stages:
        return {}
    params, cfg = stages[0].params, stages[0].spec.model.embedding_codec
    trip = round_trip(codec_of(params), cfg, image_emb)
    unit, groups = unit64(image_emb), np.asarray(examples.concepts)
    spread = np.square(unit - unit.mean(axis=0)).sum(axis=1).mean()
    shares = {"error": trip.lost, "error_dropped": trip.dropped, "error_buckets": trip.bucketed}
    shares = {name: np.asarray(lost, np.float64) / spread for name, lost in shares.items()}
    shares |= {"cosine": np.asarray(trip.cosine), "outside": np.asarray(trip.outside)}
    return {
        f"codec/{split}/{name}": mean_metric(
            values, groups=groups, baseline=0.01 if name == "error" else None
        )
        for name, values in shares.items()
    }


def plot_variance(path: Path, curves: Mapping[str, Float[np.ndarray, " k"]]) -> None:
    """Plots the explained variance over the number of components, and where it reaches 99%."""
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
