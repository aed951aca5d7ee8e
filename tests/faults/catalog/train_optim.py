"""Planted faults of unclip_jax/train: optim to batches."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/train/optim.py",
        (
            "warm_up_loses_its_first_update",
            "optax.linear_schedule(peak / cfg.warmup_steps, peak, max(cfg.warmup_steps - 1, 1))",
            "optax.linear_schedule(0.0, peak, cfg.warmup_steps)",
            "tests/train/test_optim.py::test_warm_up_rises_linearly_to_the_peak_and_the_cosine_falls_to_zero",
        ),
        (
            "cosine_counts_from_the_start",
            "span = max(steps - cfg.warmup_steps, 1)",
            "span = max(steps, 1)",
            "tests/train/test_optim.py::test_warm_up_rises_linearly_to_the_peak_and_the_cosine_falls_to_zero",
        ),
        (
            "decay_on_gains",
            "p.ndim >= 2 and not is_gain",
            "p.ndim >= 2 or is_gain",
            "tests/train/test_optim.py::test_matrices_alone_decay_where_clip_says_so",
        ),
        (
            "decay_on_biases_of_scanned_stacks",
            "p.ndim >= 2 and not is_gain",
            "p.ndim >= 2",
            "tests/train/test_optim.py::test_biases_and_gains_of_scanned_stacks_do_not_decay",
        ),
        (
            "gradients_clipped_each_by_itself",
            "optax.clip_by_global_norm(cfg.clip_norm)",
            "optax.clip(cfg.clip_norm)",
            "tests/train/test_optim.py::test_gradients_are_clipped_by_their_global_norm",
        ),
        (
            "gradients_clipped_after_adam",
            "return optax.chain(*parts)",
            "return optax.chain(*parts[::-1])",
            "tests/train/test_optim.py::test_gradients_are_clipped_by_their_global_norm",
        ),
        (
            "adam_betas_swapped",
            "b1=cfg.b1,\n            b2=cfg.b2,",
            "b1=cfg.b2,\n            b2=cfg.b1,",
            "tests/train/test_optim.py::test_two_updates_equal_adam_with_decoupled_decay",
        ),
        (
            "frozen_parameters_trained",
            "optax.masked(optax.set_to_zero(), frozen)",
            "optax.masked(optax.identity(), frozen)",
            "tests/train/test_optim.py::test_frozen_parameters_get_no_update_and_no_decay",
        ),
        (
            "ema_warm_up_from_zero",
            "(1.0 + n) / (10.0 + n)",
            "n / (10.0 + n)",
            "tests/train/test_optim.py::test_ema_decay_warms_up",
        ),
    ),
    *faults_in(
        "unclip_jax/train/state.py",
        (
            "average_starts_at_zero",
            "ema_params=jax.tree.map(jnp.copy, params)",
            "ema_params=jax.tree.map(jnp.zeros_like, params)",
            "tests/train/test_step.py::test_ema_follows_its_closed_form",
        ),
        (
            "moments_on_every_device",
            "lambda _, sharding: sharding,",
            "lambda _, sharding: whole,",
            "tests/train/test_sharding.py::test_each_device_holds_its_share_of_the_state",
        ),
    ),
    *faults_in(
        "unclip_jax/train/step.py",
        (
            "accumulation_not_divided",
            "return jax.tree.map(lambda g: g / parts, grads), metrics",
            "return grads, metrics",
            "tests/train/test_step.py::test_four_micro_batches_give_the_gradient_and_metrics_of_one_batch",
        ),
        (
            "average_of_the_old_parameters",
            "ema_update(state.ema_params, params, decay)",
            "ema_update(state.ema_params, state.params, decay)",
            "tests/train/test_step.py::test_ema_follows_its_closed_form",
        ),
        (
            "bad_update_taken",
            "params=jax.tree.map(keep, params, state.params)",
            "params=params",
            "tests/train/test_step.py::test_a_step_that_is_not_finite_is_left_out_and_counted",
        ),
        (
            "seed_ignored_in_training",
            "key = step_key(stage_key(root_key(seed), task.key_id), state.step)",
            "key = step_key(stage_key(root_key(0), task.key_id), state.step)",
            "tests/train/test_step_randomness.py::test_an_example_s_key_is_of_seed_stage_step_and_row",
        ),
        (
            "same_noise_every_step",
            "key = step_key(stage_key(root_key(seed), task.key_id), state.step)",
            "key = step_key(stage_key(root_key(seed), task.key_id), 0)",
            "tests/train/test_step_randomness.py::test_an_example_s_key_is_of_seed_stage_step_and_row",
        ),
        (
            "stages_share_their_noise",
            "key = step_key(stage_key(root_key(seed), task.key_id), state.step)",
            "key = step_key(stage_key(root_key(seed), 0), state.step)",
            "tests/train/test_step_randomness.py::test_an_example_s_key_is_of_seed_stage_step_and_row",
        ),
        (
            "sums_begin_a_step_late",
            "fresh = state.step % train.log_every == 0",
            "fresh = (state.step + 1) % train.log_every == 0",
            "tests/train/test_step_randomness.py::test_logged_sums_are_of_the_steps_since_the_last_log",
        ),
        (
            "skipped_steps_warm_the_average",
            "done = state.step - state.skipped",
            "done = state.step",
            "tests/train/test_step_randomness.py::test_skipped_steps_count_for_no_schedule",
        ),
        (
            "held_out_loss_with_dropped_captions",
            "_, metrics = task.loss(params, constants, batch, keys, False)",
            "_, metrics = task.loss(params, constants, batch, keys, True)",
            "tests/train/test_tasks.py::test_held_out_metrics_are_fixed_and_cover_every_quarter",
        ),
        (
            "held_out_batches_share_their_noise",
            "keys = batch_keys(jax.random.fold_in(key, number), batch_size)",
            "keys = batch_keys(key, batch_size)",
            "tests/train/test_tasks.py::test_held_out_metrics_are_fixed_and_cover_every_quarter",
        ),
        (
            "held_out_loss_of_raw_parameters",
            "self._step(state.ema_params, self._constants, batch, number)",
            "self._step(state.params, self._constants, batch, number)",
            "tests/train/test_step_randomness.py::test_held_out_loss_is_of_the_averaged_parameters",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/sam.py",
        (
            "sam_descends",
            "lambda w, g: w + step * g",
            "lambda w, g: w - step * g",
            "tests/train/test_sam.py::test_one_group_is_sam",
        ),
        (
            "sam_step_not_normalized",
            "step = rho / jnp.maximum(optax.global_norm(grads), SMALLEST)",
            "step = rho",
            "tests/train/test_sam.py::test_one_group_is_sam",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/clip.py",
        (
            "sam_pulls_back_unperturbed",
            "embed(p, rows, key)[:2], params_of(rows, key))",
            "embed(p, rows, key)[:2], params)",
            "tests/train/test_sam.py::test_one_group_is_sam",
        ),
        (
            "clip_accumulates_each_part_alone",
            "return jax.tree.map(jnp.add, total, pull(cotangent)[0]), None",
            "return pull(cotangent)[0], None",
            "tests/train/test_step.py::test_four_micro_batches_give_the_gradient_and_metrics_of_one_batch",
        ),
        (
            "clip_never_clamped",
            "project=clamp_logit_scale",
            "project=lambda params: params",
            "tests/train/test_step_randomness.py::test_clip_is_clamped_after_the_update",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/diffusion.py",
        (
            "timestep_and_noise_share_a_key",
            "TIME, NOISE, IMAGE_DROP, TEXT_DROP, CROP, BLUR = range(6)",
            "TIME, NOISE, IMAGE_DROP, TEXT_DROP, CROP, BLUR = 0, 0, 2, 3, 4, 5",
            "tests/train/test_step_randomness.py::test_timestep_noise_and_drops_come_from_numbered_keys",
        ),
        (
            "captions_kept_where_dropped",
            "~jax.random.bernoulli(key, drop)",
            "jax.random.bernoulli(key, drop)",
            "tests/train/test_tasks.py::test_captions_and_embeddings_are_dropped_at_their_rates_and_independently",
        ),
        (
            "embedding_dropped_with_its_caption",
            "keep_mask(keys, IMAGE_DROP, train_cfg.image_drop, train)",
            "keep_mask(keys, TEXT_DROP, train_cfg.image_drop, train)",
            "tests/train/test_step_randomness.py::test_the_decoder_drops_embedding_and_caption_independently",
        ),
        (
            "captions_never_dropped",
            "keep = keep_mask(keys, TEXT_DROP, train_cfg.caption_drop, train)\n        cond",
            "keep = keep_mask(keys, TEXT_DROP, 0.0, train)\n        cond",
            "tests/train/test_tasks.py::test_decoder_inputs_hold_the_empty_caption_where_the_caption_is_dropped",
        ),
        (
            "captions_dropped_on_held_out_data",
            "if not train or drop == 0.0:",
            "if drop == 0.0:",
            "tests/train/test_tasks.py::test_captions_and_embeddings_are_dropped_at_their_rates_and_independently",
        ),
        (
            "blur_never_applied",
            "if train_cfg.blur_prob:",
            "if False and train_cfg.blur_prob:",
            "tests/train/test_tasks.py::test_the_low_res_images_of_training_are_blurred_as_often_as_the_config_says",
        ),
        (
            "low_res_by_subsampling",
            "low_res = area_average(x0, factor)",
            "low_res = x0[:, ::factor, ::factor]",
            "tests/train/test_tasks.py::test_upsampler_sees_the_area_average_of_its_own_crop",
        ),
        (
            "crop_never_at_the_end",
            "jnp.array([height, width]) - size + 1)",
            "jnp.maximum(jnp.array([height, width]) - size, 1))",
            "tests/train/test_step_randomness.py::test_crops_lie_at_all_places_alike",
        ),
        (
            "crop_on_the_diagonal",
            "return jax.lax.dynamic_slice(image, (top, left, 0), (size, size, channels))",
            "return jax.lax.dynamic_slice(image, (top, top, 0), (size, size, channels))",
            "tests/train/test_step_randomness.py::test_crops_lie_at_all_places_alike",
        ),
        (
            "prior_aims_at_raw_embeddings",
            "x0 = normalize(z, spec.embedding_norm, stats_of(params))",
            "x0 = z",
            "tests/train/test_tasks.py::test_prior_aims_at_the_scaled_unit_embedding",
        ),
        (
            "noise_not_given_to_the_loss",
            "output, x0=x0, x_t=x_t, t=t, noise=noise,",
            "output, x0=x0, x_t=x_t, t=t, noise=x_t,",
            "tests/train/test_step_randomness.py::test_the_loss_is_of_the_noise_that_was_added",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/codes.py",
        (
            "code_loss_of_shifted_codes",
            "jax.nn.log_softmax(logits), codes[..., None], -1)",
            "jax.nn.log_softmax(logits), jnp.roll(codes, 1, 1)[..., None], -1)",
            "tests/train/test_code_tasks.py::test_the_loss_is_the_cross_entropy_of_the_codes",
        ),
        (
            "dot_token_of_dropped_captions",
            "dot = pca_codec.dot_codes(cfg, z, text.text_emb)",
            "dot = pca_codec.dot_codes(cfg, z, constants.empty.text_emb)",
            "tests/train/test_code_tasks.py::test_the_loss_is_the_cross_entropy_of_the_codes",
        ),
    ),
    *faults_in(
        "unclip_jax/train/experiment.py",
        (
            "variance_table_of_raw_parameters",
            "state.ema_params, run.constants",
            "state.params, run.constants",
            "tests/train/test_experiment.py::test_the_variance_table_is_that_of_the_averaged_parameters",
        ),
    ),
    *faults_in(
        "unclip_jax/train/program.py",
        (
            "parameters_drawn_with_one_seed",
            "stage = stage_key(root_key(self.settings.seed), self.spec.row.key_id)",
            "stage = stage_key(root_key(0), self.spec.row.key_id)",
            "tests/train/test_setup.py::test_parameters_are_drawn_with_the_key_of_seed_and_stage",
        ),
    ),
    *faults_in(
        "unclip_jax/train/fitting.py",
        (
            "statistics_of_the_variance",
            "image_emb.std(0, dtype=np.float64)",
            "image_emb.var(0, dtype=np.float64)",
            "tests/train/test_step_randomness.py::test_statistics_are_mean_and_deviation_of_each_dimension",
        ),
        (
            "dots_of_raw_embeddings",
            "(unit64(image_emb) * unit64(text_emb)).sum(1)",
            "(image_emb * text_emb).sum(1)",
            "tests/train/test_code_tasks.py::test_the_codec_is_fitted_to_the_embeddings",
        ),
        (
            "variance_table_with_captions_dropped",
            "inputs(params, constants, batch, keys, False)",
            "inputs(params, constants, batch, keys, True)",
            "tests/train/test_variance_table.py::test_the_table_is_that_of_the_closed_form",
        ),
        (
            "timesteps_of_the_clean_half",
            "(np.arange(count) + 0.5) * num_steps / count)",
            "(np.arange(count) + 0.5) * num_steps / count / 2)",
            "tests/train/test_variance_table.py::test_the_table_is_that_of_the_closed_form",
        ),
    ),
    *faults_in(
        "unclip_jax/train/frozen_clip.py",
        (
            "features_of_another_picture",
            'self.image_emb[batch["example"]]',
            'self.image_emb[batch["example"] - 1]',
            "tests/train/test_tasks.py::test_cached_features_are_those_computed_on_the_fly",
        ),
        (
            "tower_sees_pixels_unscaled",
            "images = to_float(pixels)",
            "images = pixels.astype(jnp.float32)",
            "tests/train/test_tasks.py::test_cached_features_are_those_computed_on_the_fly",
        ),
        (
            "cached_text_of_a_neighbour",
            "rows = [self._row[ids.tobytes()] for ids",
            "rows = [self._row[ids.tobytes()] - 1 for ids",
            "tests/train/test_tasks.py::test_cached_features_are_those_computed_on_the_fly",
        ),
    ),
]
