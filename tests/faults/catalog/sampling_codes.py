"""Planted faults of unclip_jax/sampling: codes to manipulate."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/sampling/codes.py",
        (
            "code_guidance_halves_swapped",
            "given, uncond = jnp.split(logits, 2)",
            "uncond, given = jnp.split(logits, 2)",
            "tests/sampling/test_codes.py::test_cached_sampling_is_the_whole_pass_with_the_documented_keys",
        ),
        (
            "temperature_multiplies",
            "nucleus(logits / sampling.temperature, sampling.top_p)",
            "nucleus(logits * sampling.temperature, sampling.top_p)",
            "tests/sampling/test_codes.py::test_codes_have_the_probabilities_of_the_tempered_softmax",
        ),
        (
            "nucleus_without_its_last",
            "before = jnp.cumsum(probability, axis=-1) - probability",
            "before = jnp.cumsum(probability, axis=-1)",
            "tests/sampling/test_codes.py::test_nucleus_keeps_the_smallest_set_that_reaches_p",
        ),
        (
            "gumbel_sign",
            "gumbel = -jnp.log(-log_ndtr(normal))",
            "gumbel = jnp.log(-log_ndtr(normal))",
            "tests/sampling/test_codes.py::test_codes_have_the_probabilities_of_the_tempered_softmax",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/encode.py",
        (
            "uint8_read_as_zero_to_one",
            "image = to_float(image)",
            "image = image.astype(np.float32) / np.float32(255)",
            "tests/sampling/test_api.py::test_uint8_and_float_images_embed_alike",
        ),
        (
            "own_tokens_of_the_shortest_context",
            "longest = max((context",
            "longest = min((context",
            "tests/sampling/test_own_text.py::test_each_stage_reads_its_own_context",
        ),
        (
            "dark_floats_not_refused",
            "np.abs(pixels).max(initial=0.0)",
            "pixels.max(initial=0.0)",
            "tests/sampling/test_api.py::test_what_is_no_picture_is_refused",
        ),
        (
            "resized_images_keep_their_fractions",
            "to_float(to_uint8(fit_images(images, cfg)))",
            "fit_images(images, cfg)",
            "tests/sampling/test_api.py::test_what_is_resized_for_the_tower_has_eight_bits",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/inpaint.py",
        (
            "kept_and_made_swapped",
            "np.where(canvas.fill[rows][..., None], made, canvas.images[rows])",
            "np.where(canvas.fill[rows][..., None], canvas.images[rows], made)",
            "tests/sampling/test_inpaint.py::test_inpainting_keeps_what_is_kept",
        ),
        (
            "mask_shrinks_by_all",
            "mask[:, a:b].any(axis=1)",
            "mask[:, a:b].all(axis=1)",
            "tests/sampling/test_inpaint.py::test_a_small_pixel_is_filled_if_any_that_it_stands_for_is",
        ),
        (
            "padding_is_filled",
            "padded = np.zeros((side, side), bool)",
            "padded = np.ones((side, side), bool)",
            "tests/sampling/test_one_embedding.py::test_inpainting_keeps_the_square_and_its_mask_together",
        ),
        (
            "mask_of_the_corner",
            "top, left = round((height - side) * 0.5), round((width - side) * 0.5)",
            "top, left = 0, 0",
            "tests/sampling/test_one_embedding.py::test_inpainting_keeps_the_square_and_its_mask_together",
        ),
        (
            "every_part_begins_anew",
            "x = jnp.where(start == 0, fresh, x)",
            "x = fresh",
            "tests/sampling/test_manipulate.py::test_python_calls_report_their_progress",
        ),
        (
            "resamples_not_passed_on",
            "jump=JUMP, resamples=self._resamples",
            "jump=JUMP, resamples=RESAMPLES",
            "tests/sampling/test_manipulate.py::test_python_calls_report_their_progress",
        ),
        (
            "later_fillings_of_the_first_pictures",
            "kept = take((known, fill), rows[chosen])",
            "kept = take((known, fill), rows[: len(chosen)])",
            "tests/sampling/test_manipulate.py::test_a_second_batch_has_its_own_rows",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/latents.py",
        (
            "decoding_begins_a_level_high",
            "descent = climb[1:]",
            "descent = climb",
            "tests/sampling/test_latents.py::test_levels_fit_between_inversion_and_decoding",
        ),
        (
            "inversion_with_guidance",
            "eta=0.0, guidance=1.0, step_list=climb",
            "eta=0.0, step_list=climb",
            "tests/sampling/test_latents.py::test_levels_fit_between_inversion_and_decoding",
        ),
        (
            "inversion_over_all_levels",
            "climb = spread_levels(levels[0], levels[-1], settings",
            "climb = spread_levels(limit - 1, 0, settings",
            "tests/sampling/test_latents.py::test_levels_fit_between_inversion_and_decoding",
        ),
        (
            "eta_of_decoding_lost",
            'override(base, "", guidance=settings.guidance, eta=eta)',
            'override(base, "", guidance=settings.guidance)',
            "tests/sampling/test_manipulate.py::test_more_draws_change_no_earlier_one",
        ),
        (
            "inversion_to_the_noisiest",
            "num_steps, skip_last=True)",
            "num_steps, skip_last=False)",
            "tests/sampling/test_manipulate.py::test_eta_0_is_the_inversion_decoded",
        ),
        (
            "stretched_for_a_cropping_clip",
            'crop="center" if fit == "center_crop" else fit',
            'crop="squash" if fit == "center_crop" else fit',
            "tests/sampling/test_one_embedding.py::test_the_inverted_image_is_fitted_likewise",
        ),
        (
            "eta_of_the_bundle_from_fresh_noise",
            '"steps": settings.steps, "eta": eta}',
            '"steps": settings.steps}',
            "tests/sampling/test_latents.py::test_fresh_noise_is_decoded_without_eta_whatever_the_bundle_samples_with",
        ),
        (
            "later_inversions_of_the_first_embeddings",
            "decoder.read(decoder_cond(image_emb[rows], empty))",
            "decoder.read(decoder_cond(image_emb[: len(rows)], empty))",
            "tests/sampling/test_manipulate.py::test_a_second_batch_has_its_own_rows",
        ),
        (
            "later_decodings_with_the_first_keys",
            "run_pipeline(samplers, cond, keys[index], {",
            "run_pipeline(samplers, cond, keys[: len(index)], {",
            "tests/sampling/test_manipulate.py::test_a_second_batch_has_its_own_rows",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/manipulate.py",
        (
            "slerp_is_linear",
            "jnp.where(sine < _PARALLEL, jnp.where(opposite, around, line), arc)",
            "jnp.where(opposite, around, line)",
            "tests/sampling/test_manipulate.py::test_slerp_is_the_formula",
        ),
        (
            "text_diff_sign",
            "return difference / length[:, None]",
            "return -difference / length[:, None]",
            "tests/sampling/test_manipulate.py::test_text_direction_is_the_unit_difference",
        ),
        (
            "edit_forgets_the_length",
            "direction = direction * np.linalg.norm(image_emb, axis=1, keepdims=True)",
            "direction = direction * 1.0",
            "tests/sampling/test_manipulate.py::test_edited_embeddings_turn_by_theta_of_the_angle",
        ),
        (
            "variations_of_other_pictures",
            "rows = np.repeat(np.arange(len(source.latent)), num)\n    draws",
            "rows = np.tile(np.arange(len(source.latent)), num)\n    draws",
            "tests/sampling/test_manipulate.py::test_more_draws_change_no_earlier_one",
        ),
        (
            "one_noise_for_all_paths",
            "draws = np.tile(np.repeat(np.arange(num), frames), len(first))",
            "draws = np.tile(np.repeat(np.zeros(num, int), frames), len(first))",
            "tests/sampling/test_manipulate.py::test_fixed_noise_gives_paths_of_their_own",
        ),
        (
            "reconstruction_at_unit_length",
            "count)) * length for count",
            "count)) for count",
            "tests/sampling/test_one_embedding.py::test_every_call_takes_the_same_embedding",
        ),
        (
            "interpolation_stops_short",
            "np.linspace(0.0, 1.0, frames, dtype=np.float32)",
            "np.linspace(0.0, 1.0, frames, False, dtype=np.float32)",
            "tests/sampling/test_manipulate.py::test_theta_0_and_the_ends_are_the_rebuilt_pictures",
        ),
        (
            "latents_interpolated_linearly",
            "latent = np.asarray(slerp(ends[0][rows], ends[1][rows], theta))",
            "weight = theta[:, None, None, None]\n        latent = (1 - weight) * ends[0][rows] + weight * ends[1][rows]",
            "tests/sampling/test_manipulate.py::test_interpolation_turns_z_i_and_x_t_alike",
        ),
        (
            "embeddings_interpolated_linearly",
            "image_emb = np.asarray(slerp(z[0][rows], z[1][rows], theta))",
            "image_emb = (1 - theta[:, None]) * z[0][rows] + theta[:, None] * z[1][rows]",
            "tests/sampling/test_manipulate.py::test_interpolation_turns_z_i_and_x_t_alike",
        ),
        (
            "text_to_go_from_ignored",
            "direction = text_direction(z_t, z_0)",
            "direction = text_direction(z_t, None)",
            "tests/sampling/test_manipulate.py::test_an_edit_goes_from_one_text_toward_the_other_by_half",
        ),
        (
            "single_frame_goes_nowhere",
            "else np.asarray([max_theta])",
            "else np.asarray([0.0])",
            "tests/sampling/test_manipulate.py::test_an_edit_goes_from_one_text_toward_the_other_by_half",
        ),
        (
            "edit_with_another_latent",
            "latent=inverted.latent[rows], monitor=monitor)",
            "latent=inverted.latent[rows[::-1]], monitor=monitor)",
            "tests/sampling/test_manipulate.py::test_an_edit_goes_from_one_text_toward_the_other_by_half",
        ),
    ),
]
