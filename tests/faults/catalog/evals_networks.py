"""Planted faults of unclip_jax/evals/networks/ and of the features made by it."""

from tests.faults.catalog import Fault, faults_in

INCEPTION = "tests/evals/networks/test_inception.py"
DINOV2 = "tests/evals/networks/test_dinov2.py"
LPIPS = "tests/evals/networks/test_lpips.py"
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
    *faults_in(
        "unclip_jax/evals/networks/dinov2.py",
        (
            "layer_scale_left_out",
            "return y * scale[None, None]",
            "return y",
            f"{DINOV2}::test_class_token_is_that_of_the_oracle",
        ),
        (
            "swiglu_gate_and_value_swapped",
            "y = nn.silu(gate) * up",
            "y = gate * nn.silu(up)",
            f"{DINOV2}::test_class_token_is_that_of_the_oracle",
        ),
        (
            "first_patch_for_the_class_token",
            'return _norm("norm")(x[:, 0])',
            'return _norm("norm")(x[:, 1])',
            f"{DINOV2}::test_class_token_is_that_of_the_oracle",
        ),
        (
            "positions_averaged",
            '(grid, grid), "cubic"',
            '(grid, grid), "area"',
            f"{DINOV2}::test_positions_are_interpolated_by_torchs_bicubic_filter",
        ),
        (
            "dinov2_reads_bilinear_images",
            "Image.Resampling.BICUBIC",
            "Image.Resampling.BILINEAR",
            f"{DINOV2}::test_preprocessing_is_pillows_in_8_bits",
        ),
        (
            "swiglu_of_the_whole_width",
            "return (int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden",
            "return hidden",
            f"{DINOV2}::test_parameters_are_as_many_as_published",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/networks/lpips.py",
        (
            "lpips_of_unscaled_images",
            "- shift) / scale",
            "- shift)",
            f"{LPIPS}::test_distances_are_those_of_numpy",
        ),
        (
            "lpips_of_raw_features",
            "unit = x / (jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)) + EPS)",
            "unit = x",
            f"{LPIPS}::test_distances_are_those_of_numpy",
        ),
        (
            "vgg_of_19_layers",
            "Layer(14, 256),",
            "Layer(14, 256), Layer(16, 256),",
            f"{LPIPS}::test_trunks_have_as_many_parameters_as_published",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/networks/inception_names.py",
        (
            "towers_in_the_order_of_their_names",
            "sorted(branches, key=TOWERS.index)",
            "sorted(branches)",
            f"{INCEPTION}::test_names_of_the_graph_are_those_that_torch_fidelity_converts",
        ),
    ),
    *faults_in(
        "unclip_jax/convert/tf_graph.py",
        (
            "graph_constants_of_every_type",
            "values[0].dtype == FLOAT",
            "values[0].dtype",
            "tests/convert/test_tf_graph.py::test_constants_are_read_by_name",
        ),
        (
            "graph_constants_of_any_length",
            "fills = size == given or",
            "fills = size >= given or",
            "tests/convert/test_tf_graph.py",
        ),
    ),
]
