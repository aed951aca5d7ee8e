"""Planted faults of unclip_jax/evals: metrics to prior_pictures."""

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
            "bootstrap_ignores_groups",
            "labels = np.arange(len(values)) if groups is None else groups",
            "labels = np.arange(len(values))",
            "tests/evals/test_metrics.py::test_grouped_bootstrap_of_copies_is_that_of_the_originals",
        ),
        (
            "cosine_of_raw_rows",
            "return np.sum(normalize(a) * normalize(b), axis=-1)",
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
            "floor = 1.0 / error[0].size",
            "floor = 1.0 / error.size",
            "tests/evals/test_metrics.py::test_psnr",
        ),
        (
            "exchanged_within_a_label",
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
        "unclip_jax/evals/gaussians.py",
        (
            "frechet_trace_term",
            "- 2 * cross",
            "- cross",
            "tests/evals/test_gaussians.py::test_distance_is_the_closed_form_with_scipys_root",
        ),
        (
            "diversity_counts_itself",
            "(count * (count - 1))",
            "(count * count)",
            "tests/evals/test_gaussians.py::test_diversity_is_the_mean_distance_of_pairs",
        ),
        (
            "distance_of_raw_embeddings",
            "Moments.of(normalize(a)), Moments.of(normalize(b))",
            "Moments.of(a), Moments.of(b)",
            "tests/evals/test_gaussians.py::test_distance_is_the_closed_form_with_scipys_root",
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
            "floor_of_all_queries",
            "floor=metrics.chance_at(relevant[rows], k)",
            "floor=metrics.chance_at(relevant, k)",
            "tests/evals/test_retrieval.py::test_retrieval_figures",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/conditioning.py",
        (
            "errors_summed_over_levels",
            "np.asarray(mse)[:kept] / len(TIMES)",
            "np.asarray(mse)[:kept]",
            "tests/evals/test_figures.py::test_errors_are_means_over_the_noise_levels",
        ),
        (
            "bicubic_over_the_upsampler",
            "metrics.mean_figure(own - base, floor=0.0)",
            "metrics.mean_figure(base - own, floor=0.0)",
            "tests/evals/test_figures.py::test_an_upsampler_is_set_against_bicubic",
        ),
        (
            "rise_has_the_wrong_sign",
            "values - own, groups=groups, floor=0.0",
            "own - values, groups=groups, floor=0.0",
            "tests/evals/test_figures.py::test_rise_figures",
        ),
        (
            "caption_alone_against_the_whole",
            'own = errors.get(f"true_{name}", errors["true"])',
            'own = errors["true"]',
            "tests/evals/test_figures.py::test_a_condition_is_set_against_its_own_true_one",
        ),
        (
            "prior_scored_on_raw_embeddings",
            "x0 = normalize(jnp.asarray(image_emb), held.spec.norm, stats_of(held.params))",
            "x0 = jnp.asarray(image_emb)",
            "tests/evals/test_figures.py::test_a_prior_is_scored_in_the_space_it_diffuses",
        ),
        (
            "exchanged_caption_is_its_own",
            '"caption": Cond(image_emb=image_emb, text=rows_of(text, swap)),',
            '"caption": Cond(image_emb=image_emb, text=text),',
            "tests/evals/test_figures.py::test_one_input_of_the_decoder_is_exchanged_at_a_time",
        ),
        (
            "caption_alone_beside_z_i",
            '"caption_alone": Cond(text=rows_of(text, swap)),',
            '"caption_alone": Cond(image_emb=image_emb, text=rows_of(text, swap)),',
            "tests/evals/test_figures.py::test_one_input_of_the_decoder_is_exchanged_at_a_time",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/priors.py",
        (
            "distance_to_the_captions",
            "frechet_distance(draws[0], held_out.image_emb)",
            "frechet_distance(draws[0], held_out.text_emb)",
            "tests/evals/test_figures.py::test_drawn_figures",
        ),
        (
            "nearest_by_picture",
            "nearest = training.owner[nearest]",
            "nearest = nearest % len(training.image_emb)",
            "tests/evals/test_figures.py::test_prior_figures",
        ),
        (
            "prior_cosine_against_the_mean",
            "own = metrics.cosine(predicted, true)",
            "own = metrics.cosine(predicted, np.repeat(mean, len(true), axis=0))",
            "tests/evals/test_figures.py::test_prior_figures",
        ),
        (
            "lowest_baseline_is_the_floor",
            "best = max(float(values.mean())",
            "best = min(float(values.mean())",
            "tests/evals/test_figures.py::test_prior_figures",
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
            "nearest_picture_is_the_farthest",
            "square = np.min(squares[None]",
            "square = np.max(squares[None]",
            "tests/evals/test_figures.py::test_pixel_distance_is_the_smallest_rms",
        ),
        (
            "nearest_of_real_and_samples_swapped",
            'figures["nearest_training_cosine"] = metrics.mean_figure(own)',
            'figures["nearest_training_cosine"] = metrics.mean_figure(reference)',
            "tests/evals/test_figures.py::test_sample_figures_tell_samples_from_real_pictures",
        ),
        (
            "ceiling_of_the_samples_concepts",
            "metrics.mean_figure(hits[k][0], floor=hits[k][1])",
            "metrics.mean_figure(ceiling[k][0], floor=hits[k][1])",
            "tests/evals/test_figures.py::test_sample_figures_tell_samples_from_real_pictures",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/edits.py",
        (
            "rise_from_the_start",
            "cosine[:, column] - cosine[:, column - 1]",
            "cosine[:, column] - cosine[:, 0]",
            "tests/evals/test_manipulations.py::test_rises_are_differences_of_the_cosines",
        ),
        (
            "edits_judged_by_their_own_captions",
            "target_emb = api.embed_text(judge, targets).text_emb",
            "target_emb = api.embed_text(judge, captions).text_emb",
            "tests/evals/test_manipulations.py::test_an_edit_is_judged_by_the_text_it_goes_to",
        ),
        (
            "edits_judged_by_other_targets",
            "rows = np.repeat(target_emb, THETAS, axis=0)",
            "rows = np.tile(target_emb, (THETAS, 1))",
            "tests/evals/test_manipulations.py::test_an_edit_is_judged_by_the_text_it_goes_to",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/pca.py",
        (
            "rank_in_bits",
            "np.exp(-(share * np.log(share)).sum())",
            "np.exp(-(share * np.log2(share)).sum())",
            "tests/evals/test_suites.py::test_spectrum_of_known_eigenvalues",
        ),
        (
            "residual_of_the_second_moment",
            "return lost / np.square(unit - unit.mean(axis=0)).sum(axis=1).mean()",
            "return lost / np.square(unit).sum(axis=1).mean()",
            "tests/evals/test_suites.py::test_what_components_leave_out_is_a_share_of_the_spread",
        ),
        (
            "parts_of_the_codecs_loss_swapped",
            '"error_dropped": trip.dropped, "error_buckets": trip.bucketed',
            '"error_dropped": trip.bucketed, "error_buckets": trip.dropped',
            "tests/evals/test_suites.py::test_the_codecs_loss_is_named_by_its_parts",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/inversion.py",
        (
            "rebuilt_from_fresh_noise",
            "latent=held.latent, runner=runner)",
            "latent=None, runner=runner)",
            "tests/evals/test_manipulations.py::test_inversion_reports_the_psnr_of_what_is_rebuilt",
        ),
        (
            "variance_of_the_latents",
            "held.latent.std(axis=(1, 2, 3))",
            "held.latent.var(axis=(1, 2, 3))",
            "tests/evals/test_manipulations.py::test_a_latents_deviation_is_taken_within_each_picture",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/report.py",
        (
            "interval_reversed",
            'f"{figure.low:.4f} to {figure.high:.4f}"',
            'f"{figure.high:.4f} to {figure.low:.4f}"',
            "tests/evals/test_figures.py::test_report",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/examples.py",
        (
            "style_within_a_word",
            'rf"\\b{re.escape(word)}\\b"',
            "re.escape(word)",
            "tests/evals/test_retrieval.py::test_names_style",
        ),
        (
            "limit_takes_the_first",
            "indices = np.sort(rng.permutation(len(source))[:limit])",
            "indices = indices[:limit]",
            "tests/evals/test_manipulations.py::test_a_limit_draws_by_the_seed",
        ),
        (
            "resized_by_subsampling",
            "return np.stack([to_square(image, size) for image in images])",
            "return images[:, :: images.shape[1] // size, :: images.shape[1] // size]",
            "tests/evals/test_retrieval.py::test_resized_is_the_area_average",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/prior_pictures.py",
        (
            "score_of_the_true_pictures",
            "score = metrics.cosine(emb, text_emb)",
            "score = metrics.cosine(emb, true)",
            "tests/evals/test_priors.py::test_decoded_pictures_are_compared_with_caption_and_picture",
        ),
        (
            "floor_of_its_own_caption",
            "metrics.cosine(emb, text_emb[swap]).mean()",
            "metrics.cosine(emb, text_emb).mean()",
            "tests/evals/test_priors.py::test_decoded_pictures_are_compared_with_caption_and_picture",
        ),
    ),
]
