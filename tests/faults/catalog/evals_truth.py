"""Planted faults of the suites whose truth is known, and of the sets that their captions are of."""

from tests.faults.catalog import Fault, faults_in

SUITES = "tests/evals/test_binding.py"
EXPORT = "tests/cli/test_export.py"
SCENES = "tests/data/test_scenes.py"
WORDS = "tests/data/test_words.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/scene_prompts.py",
        (
            "difference_of_the_wrong_sign",
            "values - scores[BASELINE][score]",
            "scores[BASELINE][score] - values",
            f"{SUITES}::test_differences_to_the_baseline_are_paired_and_nan_is_left_out",
        ),
        (
            "undefined_counts_as_wrong",
            "kept = ~np.isnan(values)",
            "kept, values = np.full(len(values), True), np.nan_to_num(values)",
            f"{SUITES}::test_differences_to_the_baseline_are_paired_and_nan_is_left_out",
        ),
        (
            "captions_of_the_same_things_are_independent",
            "groups=groups[kept], ",
            "",
            f"{SUITES}::test_captions_that_name_the_same_are_one_group",
        ),
        (
            "seen_scenes_are_those_of_training",
            "rows = first + order[: settings.prompts]",
            "rows = order[: settings.prompts]",
            f"{SUITES}::test_seen_pairs_come_in_new_scenes",
        ),
        (
            "relation_of_no_caption",
            "match[1] if match else None",
            "None",
            f"{SUITES}::test_captions_carry_their_scene",
        ),
    ),
    *faults_in(
        "unclip_jax/workflows/export.py",
        (
            "glide_waits_for_a_prior",
            '"none" if alone',
            '"none" if not alone',
            "tests/workflows/test_default_prior.py",
        ),
    ),
    *faults_in(
        "unclip_jax/workflows/parts.py",
        (
            "stages_of_another_clip_join",
            "used not in known",
            "used in ()",
            f"{EXPORT}::test_a_bundle_among_the_runs_is_checked_as_a_run_is",
        ),
        (
            "rounded_stages_are_others",
            "if stage not in part.bundle.stages",
            "if part.records",
            f"{EXPORT}::test_a_bundle_is_exported_again_however_it_is_rounded",
        ),
        (
            "license_of_an_import_is_dropped",
            "if not parts or terms",
            "if own or terms",
            f"{EXPORT}::test_an_imported_clip_is_exported_with_the_runs_trained_against_it",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/complexity.py",
        (
            "object_counts_twice",
            "(Counter(wanted) & seen).total()",
            "sum(seen[pair] for pair in wanted)",
            f"{SUITES}::test_shares_of_the_objects_that_are_there",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/spelling.py",
        (
            "letter_too_many_is_right",
            "read == word",
            "read.startswith(word)",
            f"{SUITES}::test_letters_and_words_right",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/word_reader.py",
        (
            "letters_at_one_place_only",
            "for shift in SHIFTS:",
            "for shift in SHIFTS[:1]:",
            f"{WORDS}::test_every_letter_is_read_at_every_place_and_shift",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/scenes.py",
        (
            "listed_as_drawn_by_chance",
            "np.sort(rng.permutation(columns * rows)[:number])",
            "rng.permutation(columns * rows)[:number]",
            f"{SCENES}::test_captions_list_the_objects_from_left_to_right_and_down",
        ),
        (
            "form_cut_at_the_edge",
            "cover[max(-top, 0) :, max(-left, 0) :]",
            "cover[0:, 0:]",
            f"{SCENES}::test_a_drawing_is_that_of_the_whole_canvas",
        ),
        (
            "small_is_called_big",
            'SIZES[named] if number <= 4 else ""',
            'SIZES[1 - named] if number <= 4 else ""',
            f"{SCENES}::test_sizes_in_a_caption_are_those_drawn",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/words.py",
        (
            "test_has_words_of_train",
            "else order[held_out:]",
            "else order",
            f"{WORDS}::test_the_splits_share_no_word_and_their_words_can_be_spoken",
        ),
    ),
]
