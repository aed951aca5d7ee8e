"""Planted faults of unclip_jax/evals: metrics to prior_images."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/metrics.py",
        (
            "psnr_of_another_range",
            "10.0 * np.log10(255.0**2 / np",
            "10.0 * np.log10(127.5**2 / np",
            "tests/evals/test_metrics.py::test_psnr",
        ),
        (
            "psnr_over_the_wrong_axes",
            "error.mean(axis=(1, 2, 3))",
            "error.mean(axis=(0, 1, 2)).mean() * np.ones(len(a))",
            "tests/evals/test_metrics.py::test_psnr",
        ),
        (
            "ties_count_for_the_model",
            "others = (scores >= best[:, None]) & ~relevant",
            "others = (scores > best[:, None]) & ~relevant",
            "tests/evals/test_metrics.py::test_hits_at",
        ),
        (
            "interval_too_narrow",
            "np.quantile(means, [(1 - level) / 2, (1 + level) / 2])",
            "np.quantile(means, [1 - level, level])",
            "tests/evals/test_metrics.py::test_bootstrap_interval_matches_scipy",
        ),
        (
            "none_of_many_is_certain",
            "if bounds is not None and (numbers == numbers[0]).all():",
            "if False:",
            "tests/evals/test_metrics.py::test_a_rate_of_none_or_all_has_the_exact_interval",
        ),
        (
            "interval_of_pairs_of_a_rate",
            "return value - reach * (value - low), value + reach * (high - value)",
            "return max(value - reach * (value - low), 0.0), value + reach * (high - value)",
            "tests/evals/test_metrics.py::test_pairs_that_never_differ_may_differ_as_often_as_none_of_so_many",
        ),
        (
            "one_sided_interval_of_none",
            "((1.0 - level) / 2.0) ** (1.0 / n)",
            "(1.0 - level) ** (1.0 / n)",
            "tests/evals/test_metrics.py::test_a_rate_of_none_or_all_has_the_exact_interval",
        ),
        (
            "bootstrap_ignores_groups",
            "np.arange(n) if groups is None else each_named(groups)",
            "np.arange(n)",
            "tests/evals/test_metrics.py::test_grouped_bootstrap_of_copies_is_that_of_the_originals",
        ),
        (
            "cosine_of_raw_rows",
            "return np.sum(unit64(a) * unit64(b), axis=-1)",
            "return np.sum(np.asarray(a) * np.asarray(b), axis=-1)",
            "tests/evals/test_metrics.py::test_cosine",
        ),
        (
            "chance_with_replacement",
            "(size - steps)",
            "size",
            "tests/evals/test_metrics.py::test_chance_is_hypergeometric",
        ),
        (
            "psnr_capped_by_the_batch",
            "least = 1.0 / error[0].size",
            "least = 1.0 / error.size",
            "tests/evals/test_metrics.py::test_psnr",
        ),
        (
            "swapped_within_a_label",
            "shift = int(np.bincount(member).max())",
            "shift = 1",
            "tests/evals/test_metrics.py::test_derangement_changes_every_label",
        ),
        (
            "groups_weighed_alike",
            "means[i] = (weight @ sums) / (weight @ counts)",
            "means[i] = (weight @ (sums / counts)) / len(sums)",
            "tests/evals/test_metrics.py::test_a_group_weighs_as_many_values_as_it_has",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/retrieval.py",
        (
            "hit_of_any_style",
            '(concepts == q.concept) & ((styles == q.style) | (q.style == ""))',
            "(concepts == q.concept)",
            "tests/evals/test_retrieval.py::test_queries_and_relevance",
        ),
        (
            "baseline_of_all_queries",
            "baseline=metrics.chance_at(relevant[rows], k)",
            "baseline=metrics.chance_at(relevant, k)",
            "tests/evals/test_retrieval.py::test_retrieval_metrics",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/conditioning.py",
        (
            "errors_summed_over_levels",
            "np.asarray(mse) / len(times)",
            "np.asarray(mse)",
            "tests/evals/test_conditioning.py::test_errors_are_means_over_the_noise_levels",
        ),
        (
            "bicubic_over_the_upsampler",
            "metrics.mean_metric(own - base, baseline=0.0)",
            "metrics.mean_metric(base - own, baseline=0.0)",
            "tests/evals/test_conditioning.py::test_an_upsampler_is_set_against_bicubic",
        ),
        (
            "rise_has_the_wrong_sign",
            "values - own, groups=groups, baseline=0.0",
            "own - values, groups=groups, baseline=0.0",
            "tests/evals/test_conditioning.py::test_rise_metrics",
        ),
        (
            "caption_alone_against_the_whole",
            'own = errors.get(f"true_{name}", errors["true"])',
            'own = errors["true"]',
            "tests/evals/test_conditioning.py::test_a_condition_is_set_against_its_own_true_one",
        ),
        (
            "prior_scored_on_raw_embeddings",
            "x0 = normalize(jnp.asarray(image_emb), prior.spec.norm, stats_of(prior.params))",
            "x0 = jnp.asarray(image_emb)",
            "tests/evals/test_conditioning.py::test_a_prior_is_scored_in_the_space_it_diffuses",
        ),
        (
            "swapped_caption_is_its_own",
            '"caption": Cond(image_emb=image_emb, text=rows_of(text, swap)),',
            '"caption": Cond(image_emb=image_emb, text=text),',
            "tests/evals/test_conditioning.py::test_one_input_of_the_decoder_is_swapped_at_a_time",
        ),
        (
            "caption_alone_beside_z_i",
            '"caption_alone": Cond(text=rows_of(text, swap)),',
            '"caption_alone": Cond(image_emb=image_emb, text=rows_of(text, swap)),',
            "tests/evals/test_conditioning.py::test_one_input_of_the_decoder_is_swapped_at_a_time",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/priors.py",
        (
            "distance_to_the_captions",
            "unit_frechet_metric(draws[0], held_out.image_emb,",
            "unit_frechet_metric(draws[0], held_out.text_emb,",
            "tests/evals/test_priors.py::test_drawn_metrics",
        ),
        (
            "nearest_by_image",
            "nearest = training.owner[nearest]",
            "nearest = nearest % len(training.image_emb)",
            "tests/evals/test_priors.py::test_prior_metrics",
        ),
        (
            "prior_cosine_against_the_mean",
            "own = metrics.cosine(predicted, true)",
            "own = metrics.cosine(predicted, np.repeat(mean, len(true), axis=0))",
            "tests/evals/test_priors.py::test_prior_metrics",
        ),
        (
            "lowest_baseline_is_the_baseline",
            "best = max(float(values.mean())",
            "best = min(float(values.mean())",
            "tests/evals/test_priors.py::test_prior_metrics",
        ),
        (
            "every_draw_the_first",
            "np.full(len(rows), draw)",
            "np.full(len(rows), 0)",
            "tests/evals/test_priors.py::test_a_draw_of_one_seed_is_no_draw_of_another",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/samples.py",
        (
            "nearest_image_is_the_farthest",
            "square = np.min(squares[None]",
            "square = np.max(squares[None]",
            "tests/evals/test_samples.py::test_pixel_distance_is_the_smallest_rms",
        ),
        (
            "nearest_of_real_and_samples_swapped",
            'results["nearest_training_cosine"] = metrics.mean_metric(own)',
            'results["nearest_training_cosine"] = metrics.mean_metric(reference)',
            "tests/evals/test_samples.py::test_sample_metrics_tell_samples_from_real_images",
        ),
        (
            "ceiling_of_the_samples_concepts",
            "metrics.mean_metric(hits[k][0], baseline=hits[k][1])",
            "metrics.mean_metric(ceiling[k][0], baseline=hits[k][1])",
            "tests/evals/test_samples.py::test_sample_metrics_tell_samples_from_real_images",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/edits.py",
        (
            "rise_from_the_start",
            "cosine[:, column] - cosine[:, column - 1]",
            "cosine[:, column] - cosine[:, 0]",
            "tests/evals/test_edits.py::test_rises_are_differences_of_the_cosines",
        ),
        (
            "edits_scored_with_their_own_captions",
            "target_emb = clip.captions(targets)",
            "target_emb = clip.captions(captions)",
            "tests/evals/test_edits.py::test_an_edit_is_scored_with_its_target_text",
        ),
        (
            "edits_scored_with_other_targets",
            "rows = np.repeat(target_emb, THETAS, axis=0)",
            "rows = np.tile(target_emb, (THETAS, 1))",
            "tests/evals/test_edits.py::test_an_edit_is_scored_with_its_target_text",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/pca.py",
        (
            "rank_in_bits",
            "np.exp(-(share * np.log(share)).sum())",
            "np.exp(-(share * np.log2(share)).sum())",
            "tests/evals/test_pca.py::test_spectrum_of_known_eigenvalues",
        ),
        (
            "residual_of_the_second_moment",
            "return lost / np.square(unit - unit.mean(axis=0)).sum(axis=1).mean()",
            "return lost / np.square(unit).sum(axis=1).mean()",
            "tests/evals/test_pca.py::test_what_components_leave_out_is_a_share_of_the_spread",
        ),
        (
            "parts_of_the_codecs_loss_swapped",
            '"error_dropped": trip.dropped, "error_buckets": trip.bucketed',
            '"error_dropped": trip.bucketed, "error_buckets": trip.dropped',
            "tests/evals/test_pca.py::test_the_codecs_loss_is_named_by_its_parts",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/inversion.py",
        (
            "rebuilt_from_fresh_noise",
            "latent=latent.latent, monitor=monitor\n",
            "latent=None, monitor=monitor\n",
            "tests/evals/test_inversion.py::test_inversion_reports_the_psnr_of_what_is_rebuilt",
        ),
        (
            "variance_of_the_latents",
            "latent.latent.std(axis=(1, 2, 3))",
            "latent.latent.var(axis=(1, 2, 3))",
            "tests/evals/test_inversion.py::test_a_latents_deviation_is_taken_within_each_image",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/runner.py",
        (
            "a_gallery_lists_what_it_does_not_read",
            "WITHOUT_METRICS[name](folder, model, settings, _read(name, recorded))",
            "WITHOUT_METRICS[name](folder, model, settings, recorded)",
            "tests/evals/test_gallery.py::test_gallery_command",
        ),
        (
            "interval_reversed",
            'f"{metric.low:.4f} to {metric.high:.4f}"',
            'f"{metric.high:.4f} to {metric.low:.4f}"',
            "tests/evals/test_runner.py::test_report",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/plots.py",
        (
            "interval_of_a_bar_from_its_value",
            "[metric.low, metric.high], [row, row]",
            "[metric.value, metric.high], [row, row]",
            "tests/evals/test_plots.py::test_every_reported_number_is_in_the_plot",
        ),
        (
            "metrics_without_a_panel_dropped",
            'return panels + [(Panel("", axis), found) for axis, found in units.items()]',
            "return panels",
            "tests/evals/test_plots.py",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/samples.py",
        (
            "ranks_of_the_other_concepts",
            "return scores, np.asarray(concepts)[:, None] == np.asarray(names)[None]",
            "return scores, np.asarray(concepts)[:, None] != np.asarray(names)[None]",
            "tests/evals/test_plots.py::test_ranks_count_the_concepts_that_score_no_less",
        ),
        (
            "best_samples_first",
            'np.argsort(-ranks, kind="stable")',
            'np.argsort(ranks, kind="stable")',
            "tests/evals/test_plots.py::test_the_worst_samples_come_first",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/examples.py",
        (
            "style_within_a_word",
            'rf"\\b{re.escape(word)}\\b"',
            "re.escape(word)",
            "tests/evals/test_examples.py::test_names_style",
        ),
        (
            "limit_takes_the_first",
            "indices = np.sort(rng.permutation(len(source))[:limit])",
            "indices = indices[:limit]",
            "tests/evals/test_examples.py::test_a_limit_draws_by_the_seed",
        ),
        (
            "resized_by_subsampling",
            "return np.stack([to_square(image, size) for image in images])",
            "return images[:, :: images.shape[1] // size, :: images.shape[1] // size]",
            "tests/evals/test_examples.py::test_resized_is_the_area_average",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/prior_images.py",
        (
            "score_of_the_true_images",
            "score, near = metrics.cosine(emb, text_emb)",
            "score, near = metrics.cosine(emb, true)",
            "tests/evals/test_prior_images.py::test_decoded_images_are_compared_with_caption_and_image",
        ),
        (
            "baseline_of_its_own_caption",
            "metrics.cosine(emb, text_emb[swap]).mean()",
            "metrics.cosine(emb, text_emb).mean()",
            "tests/evals/test_prior_images.py::test_decoded_images_are_compared_with_caption_and_image",
        ),
    ),
]
