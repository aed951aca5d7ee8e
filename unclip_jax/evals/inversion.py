"""How faithfully is an image reconstructed from its bipartite latent (z_i, x_T)?

Held-out images are inverted and decoded again, with several numbers of levels. The metrics are the
PSNR at the decoder's size and the standard deviation of the latents: at 1 they look like the noise
that sampling starts from, which interpolation relies on.
"""

from collections.abc import Mapping
from pathlib import Path

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.prng import image_keys, root_key
from unclip_jax.evals import metrics
from unclip_jax.evals.examples import load_splits
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.settings import Settings
from unclip_jax.sampling import latents, manipulate
from unclip_jax.sampling.monitor import Monitor
from unclip_jax.sampling.settings import decoder_size

LEVELS = (10, 20, 40, 100, 250)
DEFAULT_LIMIT = 32
TARGET_PSNR = 25.0  # dB; the project's target


def inversion(model: Bundle, settings: Settings) -> dict[str, Metric]:
    """Measures inversion followed by decoding on held-out images."""
    limit = settings.limit or DEFAULT_LIMIT
    size = decoder_size(model)
    seen = max(size, settings.clip(model).image_size)
    examples = load_splits(settings, settings.splits, model=model, size=seen, limit=limit)
    true = latents.squares(examples.images, size, latents.image_fit(model))
    keys = image_keys(root_key(settings.seed), range(len(examples)), [0] * len(examples))
    results = {}
    for count in LEVELS:
        chosen = latents.LatentSettings(size=size, invert_steps=count)
        plan = latents.resolve_latents(model, chosen)
        monitor = Monitor(settings.report)
        latent = manipulate.encode(model, examples.images, plan, monitor)
        rebuilt = latents.decode(
            model, latent.image_emb, keys, plan, latent=latent.latent, monitor=monitor
        )
        psnr = metrics.psnr(rebuilt, true)
        results[f"psnr_{count}"] = metrics.mean_metric(psnr, baseline=TARGET_PSNR)
        results[f"latent_std_{count}"] = metrics.mean_metric(latent.latent.std(axis=(1, 2, 3)))
    return results


def plot_curve(path: Path, suite: str, results: Mapping[str, Metric]) -> None:
    """Plots PSNR and the latents' standard deviation against the number of levels."""
    import matplotlib.figure  # slow to import, and only needed here

    canvas = matplotlib.figure.Figure(figsize=(6.0, 5.0), layout="constrained")
    axes = canvas.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    named = (("psnr_", "PSNR, dB"), ("latent_std_", "std of x_T"))
    for ax, (prefix, label) in zip(axes, named, strict=True):
        found = {int(k.removeprefix(prefix)): v for k, v in results.items() if k.startswith(prefix)}
        values = [metric.value for metric in found.values()]
        ax.plot(list(found), values, "o-", color="C0", markersize=4)
        ends = [m.low for m in found.values()], [m.high for m in found.values()]
        ax.fill_between(list(found), *ends, color="C0", alpha=0.2)
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
    axes[0].axhline(TARGET_PSNR, color="C3", linewidth=1)
    axes[1].axhline(1.0, color="C3", linewidth=1)
    axes[1].set_xscale("log")
    axes[1].set_xticks(LEVELS, [str(count) for count in LEVELS])
    axes[1].set_xlabel("levels of the inversion, without the noisiest")
    axes[0].set_title(f"{suite}: images reconstructed from (z_i, x_T); 95% interval", fontsize=9)
    canvas.savefig(path, dpi=120)
