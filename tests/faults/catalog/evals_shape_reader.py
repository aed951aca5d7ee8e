"""Planted faults of unclip_jax/evals/shape_reader.py."""

from tests.faults.catalog import Fault, faults_in

TESTS = "tests/evals/test_shape_reader.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/shape_reader.py",
        (
            "crisp_forms_only",
            "*itertools.product((0.7, 1.0), (1.0, 1.1, 1.2))",
            "",
            f"{TESTS}::test_soft_scenes_of_six_are_read_back",
        ),
        (
            "patches_cut_off_from_their_place",
            "(left + center[0] * size) / whole",
            "(center[0] * size) / whole",
            f"{TESTS}::test_centers_are_where_the_objects_are",
        ),
        (
            "one_color_a_patch",
            "while not kept or open_pixels.sum() >= LEAST_SHARE * len(core):",
            "while not kept:",
            f"{TESTS}::test_objects_that_touch_are_two_if_their_colors_differ",
        ),
        (
            "center_is_the_centroid",
            "center = (x - radius * form_x, y - radius * form_y)",
            "center = (x, y)",
            f"{TESTS}::test_centers_are_where_the_objects_are",
        ),
        (
            "every_patch_has_a_form",
            "form if overlap >= LEAST_OVERLAP else None",
            "form",
            f"{TESTS}::test_white_has_nothing_and_a_blot_has_no_form",
        ),
        (
            "specks_are_objects",
            "if mask.mean() >= LEAST_AREA:",
            "if mask.any():",
            f"{TESTS}::test_white_has_nothing_and_a_blot_has_no_form",
        ),
        (
            "one_for_two_of_a_kind",
            "pairs.count(pair) >= wanted.count(pair)",
            "pairs.count(pair) >= 1",
            f"{TESTS}::test_the_same_thing_twice_is_wanted_twice",
        ),
        (
            "one_swapped_color_is_enough",
            "{(color, other_form), (other_color, form)} <= set(pairs)",
            "bool({(color, other_form), (other_color, form)} & set(pairs))",
            f"{TESTS}::test_swapped_colors",
        ),
        (
            "relation_from_the_second",
            "relation(first, second) == where",
            "relation(second, first) == where",
            f"{TESTS}::test_a_scene_as_wanted",
        ),
    ),
]
