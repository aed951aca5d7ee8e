"""Planted faults of unclip_jax/evals/networks/ and of the features made by it."""

from tests.faults.catalog import Fault, faults_in

INCEPTION = "tests/evals/networks/test_inception.py"
RESIZING = "tests/evals/networks/test_resizing.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/networks/resizing.py",
        (
            "tf1_resize_by_pixel_centers",
            "place = np.arange(size, dtype=np.float32) *",
            "place = (np.arange(size, dtype=np.float32) + 0.5) *",
            f"{RESIZING}::test_tf1_bilinear_is_that_of_loops",
        ),
        (
            "tf1_resize_aligns_corners",
            "np.float32(source) / np.float32(size)",
            "np.float32(source - 1) / np.float32(size - 1)",
            f"{RESIZING}::test_tf1_bilinear_is_that_of_loops",
        ),
        (
            "pillow_resize_is_bilinear",
            "Image.Resampling.BICUBIC",
            "Image.Resampling.BILINEAR",
            f"{RESIZING}::test_pillow_bicubic_averages_when_downsampling_and_is_not_rounded",
        ),
        (
            "pillow_resize_of_8_bits",
            "image[..., channel].astype(np.float32)",
            "image[..., channel]",
            f"{RESIZING}::test_pillow_bicubic_averages_when_downsampling_and_is_not_rounded",
        ),
        (
            "pillow_resize_overshoots",
            "found.clip(0.0, 255.0)",
            "found",
            f"{RESIZING}::test_pillow_bicubic_stays_in_the_range",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/networks/inception.py",
        (
            "mean_pool_counts_padding",
            '"SAME", count_include_pad=False',
            '"SAME", count_include_pad=True',
            f"{INCEPTION}::test_mean_pool_leaves_the_padding_out",
        ),
        (
            "last_block_has_a_mean_pool",
            '"mixed_7c": _block_e("max")',
            '"mixed_7c": _block_e("mean")',
            f"{INCEPTION}::test_only_the_last_block_has_a_max_pool",
        ),
        (
            "batch_norm_of_torch_epsilon",
            "BN_EPS = 1e-3",
            "BN_EPS = 1e-5",
            f"{INCEPTION}::test_convolution_norm_and_relu",
        ),
        (
            "spatial_features_of_all_channels",
            "x[..., :SPATIAL]",
            "x",
            f"{INCEPTION}::test_features_have_the_sizes_of_both_evaluators",
        ),
        (
            "clean_recipe_resized_inside",
            'self._sized = recipe == "clean-fid"',
            "self._sized = False",
            "tests/evals/test_features.py::"
            "test_each_recipe_of_inception_is_named_and_feeds_its_own_input",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/networks/loading.py",
        (
            "digest_in_the_name_is_not_read",
            "if not found.startswith(stated[1]):",
            "if not found:",
            f"{INCEPTION}::test_a_file_is_checked_by_the_digest_in_its_name",
        ),
    ),
]
