"""Planted faults of the suites that ask the paper's own questions."""

from tests.faults.catalog import Fault, faults_in

TESTS = "tests/evals/test_reconstruction.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/reconstruction.py",
        (
            "variations_of_one_draw",
            "metrics.psnr(rebuilt.varied[:, draw], true)",
            "metrics.psnr(rebuilt.varied[:, 0], true)",
            f"{TESTS}::test_draws_of_an_image_are_compared_with_that_image",
        ),
        (
            "baseline_counts_the_source_itself",
            "np.nan\n",
            "1.0\n",
            f"{TESTS}::test_a_source_is_found_among_the_others",
        ),
        (
            "rank_of_another_source",
            "own = source[:, None] == np",
            "own = source[:, None] != np",
            f"{TESTS}::test_a_source_is_found_among_the_others",
        ),
        (
            "chance_among_the_sources",
            "min(1.0, k / len(gallery))",
            "min(1.0, k / len(rows))",
            f"{TESTS}::test_a_source_is_found_among_the_others",
        ),
        (
            "inversion_from_fresh_noise",
            "first, invert, latent=source.latent, monitor",
            "first, invert, monitor",
            f"{TESTS}::test_held_out_images_are_inverted_and_varied",
        ),
    ),
]
