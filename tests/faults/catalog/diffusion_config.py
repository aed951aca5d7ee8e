"""Planted faults of diffusion/config.py."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/diffusion/config.py",
        (
            "ddim_draws_noise_by_default",
            "eta: float = 0.0",
            "eta: float = 1.0",
            "tests/test_paper_models.py::test_stages_are_sampled_as_published",
        ),
        (
            "samples_unbounded_by_default",
            'x0_bound: float | None = renamed("clip", default=1.0)',
            'x0_bound: float | None = renamed("clip", default=None)',
            "tests/test_paper_models.py::test_stages_are_sampled_as_published",
        ),
        (
            "bound_weighs_tenfold",
            "vlb_weight: float = 0.001",
            "vlb_weight: float = 0.01",
            "tests/test_paper_models.py::test_diffusion_settings_that_are_left_open_are_the_published_ones",
        ),
        (
            "snr_cut_off_elsewhere",
            "min_snr_gamma: float = 5.0",
            "min_snr_gamma: float = 1.0",
            "tests/test_paper_models.py::test_diffusion_settings_that_are_left_open_are_the_published_ones",
        ),
    ),
]
