"""Planted faults of what compares sets of images: unclip_jax/evals and core/cpus.py."""

from tests.faults.catalog import Fault, faults_in

TESTS = "tests/evals/test_fidelity.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/metrics.py",
        (
            "jackknife_as_if_rows_were_drawn",
            "np.sqrt((count - 1) / count * spread)",
            "np.sqrt(spread / count)",
            f"{TESTS}::test_the_jackknife_of_a_mean_is_its_standard_error",
        ),
        (
            "groups_filled_in_turn",
            "group[label] = total.argmin()",
            "group[label] = label % count",
            "tests/evals/test_metrics.py::test_groups_of_the_jackknife_hold_whole_labels",
        ),
        (
            "unnamed_concepts_are_one",
            'np.array([label or f"#{i}" for',
            'np.array([label or "#" for',
            "tests/evals/test_metrics.py::test_an_empty_label_is_no_group",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/image_sets.py",
        (
            "no_group_is_left_out",
            "enumerate(parts) if group != without)",
            "enumerate(parts))",
            f"{TESTS}::test_moments_of_chunks_are_those_of_the_whole",
        ),
        (
            "groups_start_anew_in_each_chunk",
            "group_of[number * CHUNK : number * CHUNK + len(rows)]",
            "group_of[: len(rows)]",
            f"{TESTS}::test_moments_of_chunks_are_those_of_the_whole",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/comparison.py",
        (
            "baseline_of_the_samples",
            "statistic(self.against)(self.other, None)",
            "statistic(self.against)(self.sampled, None)",
            f"{TESTS}::test_samples_are_compared_with_real_images_and_these_with_others",
        ),
        (
            "cmmd_by_the_features_network",
            "sigma 10; {found.clip_recipe}",
            "sigma 10; {found.recipe}",
            f"{TESTS}::test_samples_are_compared_with_real_images_and_these_with_others",
        ),
        (
            "ten_runs_in_every_recipe",
            "splits=SCORE_SPLITS, run=run",
            "splits=SCORE_SPLITS",
            f"{TESTS}::test_inception_has_its_scores",
        ),
        (
            "distance_of_train_is_the_samples",
            "len(fake), distance(other), recipe",
            "len(fake), distance(fake), recipe",
            "tests/evals/test_priors.py::test_drawn_metrics",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/fidelity.py",
        (
            "an_image_gives_all_its_captions_first",
            "for k in range(most) for i in order if",
            "for i in order for k in range(most) if",
            f"{TESTS}::test_captions_go_around_the_images",
        ),
        (
            "clip_score_below_zero",
            "100.0 * np.maximum(metrics.cosine(image_emb, text_emb), 0.0)",
            "100.0 * metrics.cosine(image_emb, text_emb)",
            f"{TESTS}::test_the_clip_score_is_cut_at_zero",
        ),
        (
            "second_captions_are_other_concepts",
            "metrics.each_named(np.array(real.concepts))[np.asarray(rows)]",
            "metrics.each_named(np.array(real.concepts)[np.asarray(rows)])",
            f"{TESTS}::test_images_of_a_concept_are_left_out_together",
        ),
        (
            "nearest_of_the_last_block",
            "np.min([pixel_distance(",
            "np.max([pixel_distance(",
            f"{TESTS}::test_the_nearest_training_image_is_found_across_blocks",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/chunks.py",
        (
            "chunks_of_other_settings_are_read",
            'json.dumps({"format": FORMAT, **settings}',
            'json.dumps({"format": FORMAT}',
            f"{TESTS}::test_the_suite_continues_from_its_chunks",
        ),
    ),
    *faults_in(
        "unclip_jax/core/cpus.py",
        (
            "all_of_the_memory",
            "free // 2 // max(needed, 1)",
            "free // max(needed, 1)",
            "tests/core/test_cpus.py::test_half_of_the_memory_holds_all_devices",
        ),
    ),
]
FAULTS += faults_in(
    "unclip_jax/evals/guidance.py",
    (
        "images_of_a_caption_in_four_groups",
        "return np.tile(labels, DRAWS)",
        "return np.repeat(labels, DRAWS)",
        "tests/evals/test_guidance.py::test_all_images_of_a_caption_are_left_out_together",
    ),
    (
        "draws_of_a_caption_in_a_row",
        "key=lambda r: (r.draw, r.prompt_index)",
        "key=lambda r: (r.prompt_index, r.draw)",
        "tests/evals/test_guidance.py::test_all_images_of_a_caption_are_left_out_together",
    ),
    (
        "diversity_among_captions",
        "rows.reshape(DRAWS, -1, rows.shape[-1])",
        "rows.reshape(-1, DRAWS, rows.shape[-1]).swapaxes(0, 1)",
        "tests/evals/test_guidance.py::test_diversity_is_within_a_caption",
    ),
)
