"""Planted faults of the suites that ask the paper's own questions."""

from tests.faults.catalog import Fault, faults_in

TESTS = "tests/evals/test_reconstruction.py"
ANSWERS = "tests/evals/test_preference_answers.py"
STUDY = "tests/evals/test_preference.py"

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
    *faults_in(
        "unclip_jax/evals/preference_answers.py",
        (
            "interval_of_the_variance",
            "NORMAL * math.sqrt(float(np.square(deviations).sum())) / len(scores)",
            "NORMAL * float(np.square(deviations).sum()) / len(scores)",
            f"{ANSWERS}::test_intervals_are_those_of_the_papers_table_1",
        ),
        (
            "raters_taken_as_independent",
            "_, member = np.unique(groups, return_inverse=True)",
            "member = np.arange(len(groups))",
            f"{ANSWERS}::test_raters_of_one_question_are_not_independent",
        ),
        (
            "not_sure_is_a_loss",
            "key.kinds[name], EVEN)",
            "key.kinds[name], 0.0)",
            f"{ANSWERS}::test_answers_are_turned_to_the_model",
        ),
        (
            "the_first_is_always_the_model",
            'float((choice == "first") == key.first[name])',
            'float(choice == "first")',
            f"{ANSWERS}::test_answers_are_turned_to_the_model",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/preference.py",
        (
            "key_of_the_other_side",
            "first[name] = MODELS[flip]",
            "first[name] = MODELS[1 - flip]",
            f"{STUDY}::test_the_key_names_what_is_shown_first",
        ),
        (
            "one_noise_for_both_models",
            "jax.random.fold_in(root_key(settings.seed), place)",
            "jax.random.fold_in(root_key(settings.seed), 0)",
            f"{STUDY}::test_two_models_draw_the_captions",
        ),
        (
            "images_in_the_order_of_the_models",
            "order = rng.permutation(len(whole))",
            "order = np.argsort(np.arange(len(whole)) % 2, kind='stable')",
            f"{STUDY}::test_the_page_does_not_tell_the_models",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/preference_page.py",
        (
            "captions_are_markup",
            r'.replace("<", "\\u003c")',
            "",
            f"{STUDY}::test_a_caption_cannot_leave_its_place",
        ),
    ),
]
