"""Planted faults of the suites that ask the paper's own questions."""

from tests.faults.catalog import Fault, faults_in

TESTS = "tests/evals/test_reconstruction.py"
ANSWERS = "tests/evals/test_preference_answers.py"
STUDY = "tests/evals/test_preference.py"
RATINGS = "tests/evals/test_ratings.py"
SAMPLES = "tests/evals/test_aesthetics.py"

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
            "sets_of_the_first_captions",
            "np.random.default_rng([seed, 2]).permutation(len(captions))",
            "range(len(captions))",
            f"{STUDY}::test_sets_are_asked_of_captions_from_everywhere",
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
    *faults_in(
        "unclip_jax/evals/ratings.py",
        (
            "ridge_of_raw_embeddings",
            "z, r = unit64(emb), np.asarray",
            "z, r = np.asarray(emb, np.float64), np.asarray",
            f"{RATINGS}::test_ridge_is_penalized_least_squares_of_unit_rows",
        ),
        (
            "penalty_not_by_the_number_of_images",
            "values / (values**2 + count * best)",
            "values / (values**2 + best)",
            f"{RATINGS}::test_ridge_is_penalized_least_squares_of_unit_rows",
        ),
        (
            "offset_of_the_mean_alone",
            "Linear(weights, mean - float(center @ weights))",
            "Linear(weights, mean)",
            f"{RATINGS}::test_ridge_is_penalized_least_squares_of_unit_rows",
        ),
        (
            "penalty_by_the_error_of_the_fit",
            "residual / np.maximum(1.0 - hat, 1e-12)",
            "residual",
            f"{RATINGS}::test_the_penalty_has_the_least_leave_one_out_error",
        ),
        (
            "proxy_of_the_other_sign",
            "x = unit64(preferred) - unit64(other)",
            "x = unit64(other) - unit64(preferred)",
            f"{RATINGS}::test_the_proxy_is_the_papers_likelihood",
        ),
        (
            "raters_of_one_question_are_parted",
            "part = np.random.default_rng(0).permutation(len(names))[member] % HELD_OUT",
            "part = np.arange(len(member)) // len(names) % HELD_OUT",
            f"{RATINGS}::test_a_question_is_not_in_its_own_fit",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/aesthetics.py",
        (
            "probe_measured_on_its_fit",
            "ratings.fit_ridge(emb[fitted], true[fitted])",
            "ratings.fit_ridge(emb, true)",
            f"{SAMPLES}::test_the_probe_is_measured_on_what_it_has_not_seen",
        ),
        (
            "recall_of_the_real_images",
            "found, left_out = overlap(compared, batch.emb),",
            "found, left_out = overlap(batch.emb, compared),",
            f"{SAMPLES}::test_means_recall_and_their_baselines",
        ),
        (
            "guidance_is_not_swept",
            "guidance=scale,",
            "guidance=1.0,",
            f"{SAMPLES}::test_samples_of_every_scale_are_rated",
        ),
        (
            "the_lowest_are_the_highest",
            '("lowest", lowest[:SHOWN])',
            '("lowest", highest[:SHOWN])',
            f"{SAMPLES}::test_the_grid_has_the_highest_and_the_lowest",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/preference.py",
        (
            "preferred_is_the_models",
            "of_first = (answer.score == 1.0) == key.first[answer.question]",
            "of_first = answer.score == 1.0",
            f"{SAMPLES}::test_judged_pairs_hold_what_was_preferred",
        ),
    ),
]
