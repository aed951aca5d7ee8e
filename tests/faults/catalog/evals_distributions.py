"""Planted faults of unclip_jax/evals/distributions.py."""

from tests.faults.catalog import Fault, faults_in

TESTS = "tests/evals/test_distributions.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/distributions.py",
        (
            "frechet_trace_term",
            "- 2.0 * cross, 0.0",
            "- cross, 0.0",
            f"{TESTS}::test_frechet_distance_of_axis_aligned_gaussians",
        ),
        (
            "frechet_of_population_covariances",
            "max(moments.count - 1, 1)",
            "moments.count",
            f"{TESTS}::test_frechet_distance_is_that_of_the_matrix_root",
        ),
        (
            "distance_of_raw_embeddings",
            "return lambda b: distance(Moments.of(unit64(b)))",
            "return lambda b: distance(Moments.of(b))",
            f"{TESTS}::test_frechet_distance_of_unit_vectors",
        ),
        (
            "diversity_counts_itself",
            "(count * (count - 1))",
            "(count * count)",
            f"{TESTS}::test_diversity_is_the_mean_distance_of_pairs",
        ),
        (
            "splits_share_one_marginal",
            "part / part.mean(axis=0)",
            "part / rows.mean(axis=0)",
            f"{TESTS}::test_inception_score_of_sure_and_of_blind_networks",
        ),
        (
            "kernel_distance_counts_itself",
            "(gram.sum() - np.trace(gram))",
            "gram.sum()",
            f"{TESTS}::test_kernel_distance_is_the_unbiased_estimate",
        ),
        (
            "kid_of_sums",
            "a @ b.T / a.shape[1] + 1.0",
            "a @ b.T + 1.0",
            f"{TESTS}::test_kernel_distance_is_the_unbiased_estimate",
        ),
        (
            "cmmd_of_raw_embeddings",
            "one, two = unit64(real), unit64(fake)",
            "one, two = np.asarray(real), np.asarray(fake)",
            f"{TESTS}::test_cmmd_is_that_of_loops",
        ),
        (
            "cmmd_of_distances",
            "-np.square(d) /",
            "-d /",
            f"{TESTS}::test_cmmd_is_that_of_loops",
        ),
        (
            "recall_by_real_balls",
            "held |= (distances <= fake_radius[start : start + len(distances), None])",
            "held |= (distances <= real_radius)",
            f"{TESTS}::test_neighborhoods_on_a_line",
        ),
        (
            "density_not_over_k",
            "counts).mean() / k_density",
            "counts).mean()",
            f"{TESTS}::test_neighborhoods_on_a_line",
        ),
        (
            "a_vector_is_its_own_neighbor",
            ", ks, axis=1)[:, list(ks)]",
            ", ks, axis=1)[:, [k - 1 for k in ks]]",
            f"{TESTS}::test_neighborhoods_on_a_line",
        ),
    ),
]
