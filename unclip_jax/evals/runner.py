"""The suites by name."""

from collections.abc import Callable

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError
from unclip_jax.evals.conditioning import conditioning
from unclip_jax.evals.edits import edits
from unclip_jax.evals.inversion import inversion, plot_curve
from unclip_jax.evals.metrics import Figure
from unclip_jax.evals.pca import pca
from unclip_jax.evals.priors import priors
from unclip_jax.evals.retrieval import retrieval
from unclip_jax.evals.samples import samples
from unclip_jax.evals.settings import Settings

Suite = Callable[[Bundle, Settings], dict[str, Figure]]

SUITES: dict[str, Suite] = {
    "retrieval": retrieval,
    "priors": priors,
    "conditioning": conditioning,
    "samples": samples,
    "pca": pca,
    "inversion": inversion,
    "edits": edits,
}

PLOTS = {"inversion": plot_curve}
"""How a suite's figures are drawn, where not as bars."""


def run_suite(name: str, model: Bundle, settings: Settings) -> dict[str, Figure]:
    """Runs a suite and returns its figures by name."""
    if name not in SUITES:
        raise UserError(f"unknown suite {name!r}; there are {', '.join(SUITES)}")
    return SUITES[name](model, settings)
