"""Planted faults of unclip_jax/core: prng to types."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/core/locks.py",
        (
            "another_place_is_named",
            "if os.path.lexists(p) and not p.is_dir()",
            "if not p.is_dir()",
            "tests/core/test_locks.py::test_a_place_that_cannot_be_written_is_one_line",
        ),
        (
            "a_link_to_nothing_is_passed_over",
            "if os.path.lexists(p) and not p.is_dir()), folder)",
            "if p.exists()), folder)",
            "tests/core/test_locks.py::test_a_link_to_nothing_is_no_folder",
        ),
    ),
    *faults_in(
        "unclip_jax/core/prng.py",
        (
            "draw_and_prompt_swapped",
            "jax.random.fold_in(jax.random.fold_in(root, prompt_index), draw)",
            "jax.random.fold_in(jax.random.fold_in(root, draw), prompt_index)",
            "tests/core/test_prng.py::test_keys_are_threefry_of_their_path",
        ),
        (
            "image_keys_swapped",
            "return _image_keys_program(root.dtype, inputs[1].size)(*inputs)",
            "return _image_keys(root, *inputs[:0:-1])",
            "tests/core/test_prng.py::test_an_image_s_key_is_folded_with_its_prompt_and_then_its_draw",
        ),
    ),
    *faults_in(
        "unclip_jax/core/ready.py",
        (
            "damaged_entries_are_used",
            "return data if hashlib.sha256(data).digest() == digest else None",
            "return data if len(digest) == DIGEST_BYTES else None",
            "tests/core/test_ready.py::test_a_damaged_entry_is_made_again",
        ),
        (
            "kept_whatever_the_source",
            "told = [*map(repr, parts), chosen_attention(), *versions(), source_digest()]",
            "told = [*map(repr, parts), chosen_attention(), *versions()]",
            "tests/core/test_ready.py::test_other_parts_another_source_or_other_versions_are_another_entry",
        ),
        (
            "kept_whatever_the_attention",
            "told = [*map(repr, parts), chosen_attention(), *versions(), source_digest()]",
            "told = [*map(repr, parts), *versions(), source_digest()]",
            "tests/nn/test_cudnn_attention.py::test_work_and_kept_programs_tell_the_kernels_apart",
        ),
        (
            "kept_whatever_the_shapes",
            "parts = (*parts, shapes, *_platform(),",
            "parts = (*parts, *_platform(),",
            "tests/core/test_ready.py::test_other_shapes_are_another_program",
        ),
    ),
    *faults_in(
        "unclip_jax/core/batching.py",
        (
            "later_batches_repeat_the_first",
            "result = jax.device_get(function(filled))",
            "result = jax.device_get(function(filled)) if done == 0 else result",
            "tests/core/test_batching.py::test_batches_are_the_whole_in_order",
        ),
    ),
    *faults_in(
        "unclip_jax/core/trees.py",
        (
            "ema_decay_swapped",
            "return rate * average + (1 - rate) * value.astype(average.dtype)",
            "return (1 - rate) * average + rate * value.astype(average.dtype)",
            "tests/core/test_trees.py::test_ema_against_its_closed_form",
        ),
        (
            "mask_matches_the_beginning",
            "found = re.compile(pattern).search",
            "found = re.compile(pattern).match",
            "tests/core/test_trees.py::test_mask_searches_the_whole_path",
        ),
        (
            "averaged_integers",
            "if not jnp.issubdtype(average.dtype, jnp.inexact):\n            return value",
            "if not jnp.issubdtype(average.dtype, jnp.inexact):\n            return average",
            "tests/core/test_trees.py::test_ema_keeps_dtypes_and_copies_integers",
        ),
    ),
    *faults_in(
        "unclip_jax/core/chips.py",
        (
            "rate_of_another_chip",
            'Chip("v6e", 918e12, 32 * GIB, 1640e9',
            'Chip("v6e", 459e12, 32 * GIB, 1640e9',
            "tests/plan/test_estimate.py::test_chips_have_their_makers_figures",
        ),
        (
            "dense_rate_of_sparse_products",
            'Chip("h100", 989.4e12',
            'Chip("h100", 1979e12',
            "tests/plan/test_estimate.py::test_chips_have_their_makers_figures",
        ),
    ),
    *faults_in(
        "unclip_jax/core/rendering.py",
        (
            "gif_goes_back_first",
            "order = [*range(len(shown)), *range(rest - 1, 0, -1)]",
            "order = [*range(rest, -1, -1), *range(1, rest)]",
            "tests/core/test_rendering.py::test_a_gif_goes_there_and_back",
        ),
        (
            "grid_in_columns",
            "across, down = index % columns, index // columns\n        block",
            "down, across = index % columns, index // columns\n        block",
            "tests/core/test_rendering.py::test_a_grid_holds_every_image",
        ),
        (
            "images_of_a_row_reversed",
            "for index, image in enumerate(row):",
            "for index, image in enumerate(row[::-1]):",
            "tests/core/test_rendering.py::test_a_grid_holds_every_image",
        ),
    ),
    *faults_in(
        "unclip_jax/core/config.py",
        (
            "flags_are_numbers",
            "is_stray_bool = isinstance(value, bool) and hint is not bool",
            "is_stray_bool = False",
            "tests/core/test_config.py::test_mistakes_are_named_by_their_path",
        ),
        (
            "integers_stay_in_floats",
            "        return float(value)\n",
            "        return value\n",
            "tests/core/test_config.py::test_the_two_conversions",
        ),
        (
            "infinite_numbers_pass",
            "not math.isfinite(value)",
            "math.isnan(value)",
            "tests/core/test_config.py::test_mistakes_are_named_by_their_path",
        ),
        (
            "tuples_cut_to_their_types",
            '    if len(items) != len(value):\n        raise _wrong(path, f"{len(items)} values", value)\n    pairs = zip(items, value, strict=True)',
            "    pairs = zip(items, value, strict=False)",
            "tests/core/test_config.py::test_mistakes_are_named_by_their_path",
        ),
    ),
    *faults_in(
        "unclip_jax/core/flops.py",
        (
            "multiply_adds_count_once",
            "return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(",
            "return 1.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(",
            "tests/core/test_flops.py::test_a_product_is_two_operations_a_multiply_add",
        ),
        (
            "convolution_of_one_channel",
            "taps = math.prod(kernel[i] for i in spatial) * kernel[in_axis]",
            "taps = math.prod(kernel[i] for i in spatial)",
            "tests/core/test_flops.py::test_a_convolution_and_its_gradient",
        ),
        (
            "scan_counted_once",
            '.times(params["length"])',
            "",
            "tests/core/test_flops.py::test_a_scan_is_counted_as_often_as_it_runs",
        ),
        (
            "cheapest_branch",
            "return max((count(branch",
            "return min((count(branch",
            "tests/core/test_flops.py::test_branches_count_as_the_dearest",
        ),
    ),
    *faults_in(
        "unclip_jax/core/files.py",
        (
            "second_of_two_keys_wins",
            "if len(found) != len(pairs):",
            "if len(found) > len(pairs):",
            "tests/checkpoint/test_manifest.py::test_keys_that_occur_twice_and_deep_nesting_are_refused",
        ),
        (
            "any_folder_replaced",
            "if not (out / marker).is_file():",
            "if not out.is_dir():",
            "tests/checkpoint/test_bundle.py::test_a_folder_of_other_things_is_never_replaced",
        ),
        (
            "older_folder_not_put_back",
            "return os.path.lexists(scratch / OLD) and waiting",
            "return os.path.lexists(scratch / OLD) and not waiting",
            "tests/core/test_files.py::test_what_a_killed_process_left_is_swept_by_the_next_and_nothing_is_lost",
        ),
    ),
    *faults_in(
        "unclip_jax/core/vectors.py",
        (
            "mean_stays_the_arithmetic_one",
            "mean = unit64(np.cos(length) * mean + np.sin(length) * step / max(length, _TINY))",
            "mean = unit64(mean + 0 * step)",
            "tests/core/test_vectors.py::test_on_a_great_circle_it_is_the_mean_angle",
        ),
        (
            "sines_averaged_for_angles",
            "step = (w * angle / np.maximum(sine, _TINY)) @ aside",
            "step = w @ aside",
            "tests/core/test_vectors.py::test_the_spherical_mean_has_the_least_squared_angles",
        ),
        (
            "lengths_weigh",
            "mean = weights / weights.sum() @ unit64(x)",
            "mean = weights / weights.sum() @ np.asarray(x)",
            "tests/core/test_vectors.py::test_the_linear_mean_is_that_of_unit_vectors",
        ),
        (
            "angles_below_a_quarter_turn",
            "angle = np.arctan2(sine, points @ mean)",
            "angle = np.arcsin(np.minimum(sine, 1.0))",
            "tests/core/test_vectors.py::test_of_two_it_is_their_slerp",
        ),
    ),
    *faults_in(
        "unclip_jax/core/types.py",
        (
            "dropped_captions_swapped",
            "return jnp.where(mask, given,",
            "return jnp.where(~mask, given,",
            "tests/core/test_types.py::test_where_text_takes_whole_captions",
        ),
    ),
]
