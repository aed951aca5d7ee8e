"""Faults that the tests must catch: one change each of what is trained, sampled, stored or told.

A fault is a text of a source file, what replaces it, and the tests meant to notice. run.py plants
each alone in a copy of the tree. Every fault changes behavior; none only breaks the code's form.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        file: the source file, from the root of the tree.
        old: a text that occurs in it once.
        tests: node ids or files of the tests meant for it, separated by spaces.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


def faults_in(file: str, *rows: tuple[str, str, str, str]) -> list[Fault]:
    """Returns the faults of one file; a row is (name, old, new, tests)."""
    return [Fault(name, file, *rest) for name, *rest in rows]


FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/diffusion/denoiser.py",
        (
            "guidance_halves_swapped",
            "cond, uncond = jnp.split(",
            "uncond, cond = jnp.split(",
            "tests/diffusion/test_denoiser.py::test_guidance_is_one_call_and_mixes_outputs",
        ),
        (
            "guidance_scale_counts_from_zero",
            "jnp.asarray(scale, cond.dtype) - 1.0",
            "jnp.asarray(scale, cond.dtype)",
            "tests/diffusion/test_denoiser.py::test_guidance_is_one_call_and_mixes_outputs",
        ),
        (
            "variance_of_the_unconditional_half",
            "cond, variance = split_variance(cond, x_t.shape[-1])\n        uncond, _ =",
            "cond, _ = split_variance(cond, x_t.shape[-1])\n        uncond, variance =",
            "tests/diffusion/test_denoiser.py::test_guidance_is_one_call_and_mixes_outputs",
        ),
        (
            "variance_fraction_not_halved",
            "fraction = None if raw is None else (raw + 1.0) / 2.0",
            "fraction = None if raw is None else raw + 1.0",
            "tests/diffusion/test_denoiser.py::test_learned_variance_fraction",
        ),
        (
            "threshold_of_the_whole_batch",
            "jnp.quantile(flat, quantile, axis=-1)",
            "jnp.quantile(flat, quantile)",
            "tests/diffusion/test_denoiser.py::test_thresholded_examples_are_independent",
        ),
        (
            "threshold_without_rescaling",
            "x0=jnp.clip(out.x0, -bound, bound) / bound)",
            "x0=jnp.clip(out.x0, -bound, bound))",
            "tests/diffusion/test_denoiser.py::test_thresholding_by_definition",
        ),
        (
            "clip_wins_over_threshold",
            "    if config.threshold is not None:\n        return",
            "    if config.threshold is not None and config.clip is None:\n        return",
            "tests/diffusion/test_denoiser.py::test_limits_chosen_by_configuration",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/dpm_solver.py",
        (
            "dpm_extrapolates_backwards",
            "x0 + weight * (x0 - x0_before)",
            "x0 - weight * (x0 - x0_before)",
            "tests/diffusion/test_gaussian.py::test_ode_order",
        ),
        (
            "dpm_weight_doubled",
            "h / (2.0 * h_before)",
            "h / h_before",
            "tests/diffusion/test_gaussian.py::test_ode_order",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/inpainting.py",
        (
            "kept_part_at_the_level_left",
            "        level = s.expand(x.ndim)",
            "        level = t.expand(x.ndim)",
            "tests/diffusion/test_inpainting.py::test_kept_data_is_noised_to_the_level_reached",
        ),
        (
            "kept_and_filled_swapped",
            "jnp.where(fill, made, kept)",
            "jnp.where(fill, kept, made)",
            "tests/diffusion/test_inpainting.py::test_resampling_brings_the_filled_part_to_its_conditional_mean",
        ),
        (
            "renoise_forgets_its_noise_so_far",
            "s.sigma**2 - (r * t.sigma) ** 2",
            "s.sigma**2 - t.sigma**2",
            "tests/diffusion/test_inpainting.py::test_renoising_has_the_forward_process_moments",
        ),
        (
            "one_resampling_too_many",
            "{p: resamples - 1 for p",
            "{p: resamples for p",
            "tests/diffusion/test_inpainting.py::test_moves_are_repaints",
        ),
        (
            "inpainting_steps_without_noise",
            "noise(2 * index, x.shape), eta=1.0)",
            "noise(2 * index, x.shape), eta=0.0)",
            "tests/diffusion/test_inpainting.py::test_where_nothing_is_kept_it_is_ancestral_sampling",
        ),
        (
            "inpainting_tells_the_next_level",
            "estimate = denoise(x, jnp.full(x.shape[:1], told))",
            "estimate = denoise(x, jnp.full(x.shape[:1], jnp.maximum(told - 50, 0)))",
            "tests/diffusion/test_inpainting.py::test_where_nothing_is_kept_it_is_ancestral_sampling",
        ),
        (
            "inpainting_chunks_repeat_noise",
            "indices = jnp.asarray(start, jnp.int32) + jnp.arange(moves",
            "indices = jnp.arange(moves",
            "tests/diffusion/test_inpainting.py::test_chunks_are_the_same_run",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/losses.py",
        (
            "kl_of_the_wrong_variance",
            "difference**2 * jnp.exp(-log_var_model)",
            "difference**2 * jnp.exp(-log_var)",
            "tests/diffusion/test_losses.py::test_vlb_is_the_bound",
        ),
        (
            "hybrid_bound_moves_the_mean",
            'frozen = jax.lax.stop_gradient(prediction) if cfg.loss == "hybrid" else prediction',
            "frozen = prediction",
            "tests/diffusion/test_losses.py::test_hybrid_weight_and_gradient",
        ),
        (
            "hybrid_weight_of_a_thousand_steps",
            "cfg.vlb_weight * schedule.num_steps * vb",
            "cfg.vlb_weight * 1000 * vb",
            "tests/diffusion/test_losses.py::test_hybrid_weight_at_other_lengths",
        ),
        (
            "min_snr_of_v_like_eps",
            '"v": schedule.snr + 1.0',
            '"v": schedule.snr',
            "tests/diffusion/test_losses.py::test_min_snr_equals_its_weight_on_x0",
        ),
        (
            "end_bins_swapped",
            "jnp.where(x0 > END_BIN, ndtr(-below)",
            "jnp.where(x0 > END_BIN, ndtr(below)",
            "tests/diffusion/test_losses.py::test_vlb_is_the_bound",
        ),
        (
            "bound_in_nats",
            "return jnp.where(t == 0, nll, kl) / math.log(2.0)",
            "return jnp.where(t == 0, nll, kl)",
            "tests/diffusion/test_losses.py::test_vlb_is_the_bound",
        ),
        (
            "bound_of_the_level_itself",
            "jnp.where(t == 0, CLEAN, t - 1)",
            "jnp.where(t == 0, CLEAN, jnp.maximum(t - 2, 0))",
            "tests/diffusion/test_losses.py::test_vlb_is_the_bound",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/process.py",
        (
            "posterior_with_alpha_t",
            "x0_weight=s.alpha * beta / t.sigma**2",
            "x0_weight=t.alpha * beta / t.sigma**2",
            "tests/diffusion/test_process.py::test_posterior_is_bayes",
        ),
        (
            "posterior_weight_inverted",
            "xt_weight=t.alpha / s.alpha * shrink",
            "xt_weight=s.alpha / t.alpha * shrink",
            "tests/diffusion/test_process.py::test_posterior_is_bayes",
        ),
        (
            "v_target_of_the_wrong_sign",
            "return t.alpha * noise - t.sigma * x0",
            "return t.alpha * noise + t.sigma * x0",
            "tests/diffusion/test_process.py::test_conversions_agree_with_definitions",
        ),
        (
            "eps_and_x0_swapped_from_v",
            '("v", "x0"): x0_from_v',
            '("v", "x0"): eps_from_v',
            "tests/diffusion/test_process.py::test_conversions_agree_with_definitions",
        ),
        (
            "noise_with_its_variance",
            "level.alpha * x0 + level.sigma * noise.astype",
            "level.alpha * x0 + level.sigma**2 * noise.astype",
            "tests/diffusion/test_process.py::test_q_sample_moments",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/samplers.py",
        (
            "ddpm_noise_in_the_last_step",
            "jnp.where(is_clean, 0.0, expand(var, x_t.ndim))",
            "expand(var, x_t.ndim)",
            "tests/diffusion/test_gaussian.py::test_ddpm_moments",
        ),
        (
            "ddim_direction_ignores_eta",
            "jnp.sqrt((1.0 - eta**2) + (eta * q) ** 2)",
            "jnp.sqrt(1.0 - eta**2 + eta * q**2)",
            "tests/diffusion/test_gaussian.py::test_ddim_moments",
        ),
        (
            "ddim_spread_not_scaled",
            "spread = eta * s.sigma * jnp.sqrt",
            "spread = eta * t.sigma * jnp.sqrt",
            "tests/diffusion/test_gaussian.py::test_ddim_moments",
        ),
        (
            "inversion_sign",
            "((x_t - t.sigma * eps) / t.alpha) + s.sigma * eps",
            "((x_t - t.sigma * eps) / t.alpha) - s.sigma * eps",
            "tests/diffusion/test_gaussian.py::test_inverted_latent_lies_on_the_flow",
        ),
        (
            "last_step_ends_at_level_0",
            "targets = np.append(plan.steps[1:], CLEAN)",
            "targets = np.append(plan.steps[1:], 0)",
            "tests/diffusion/test_gaussian.py::test_short_lists",
        ),
        (
            "variance_table_by_step_number",
            "jnp.asarray(plan.variance_table, x.dtype)[t_index]",
            "jnp.asarray(plan.variance_table, x.dtype)[index]",
            "tests/diffusion/test_gaussian.py::test_analytic_variance_keeps_every_marginal",
        ),
        (
            "network_is_told_the_step_number",
            "denoised = denoise(x, jnp.full(x.shape[:1], told))",
            "denoised = denoise(x, jnp.full(x.shape[:1], index))",
            "tests/diffusion/test_samplers.py::test_network_is_told_the_listed_timesteps_and_noise_its_index",
        ),
        (
            "chunks_begin_at_step_0",
            "indices = jnp.asarray(start, jnp.int32) + jnp.arange(count",
            "indices = jnp.arange(count",
            "tests/diffusion/test_samplers.py::test_chunks_give_the_same_numbers",
        ),
        (
            "inversion_asks_the_level_it_goes_to",
            "asked = np.append(climb[0], climb[:-1])",
            "asked = climb",
            "tests/diffusion/test_gaussian.py::test_invert_then_sample_returns_the_data",
        ),
        (
            "refinement_at_the_level_left",
            "ddim_invert_step(x, eps_at(moved, there), t, s)",
            "ddim_invert_step(x, eps_at(moved, asked), t, s)",
            "tests/diffusion/test_inpainting.py::test_refined_inversion_is_exact",
        ),
        (
            "history_of_the_level_reached",
            "return SamplerState(x=x_s, x0=x0, level=t)",
            "return SamplerState(x=x_s, x0=x0, level=s)",
            "tests/diffusion/test_gaussian.py::test_dpmpp_moments",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/schedules.py",
        (
            "cosine_without_offset",
            "COSINE_OFFSET = 0.008",
            "COSINE_OFFSET = 0.0",
            "tests/diffusion/test_schedules.py::test_cosine_values",
        ),
        (
            "linear_ends_at_half",
            "np.linspace(scale * 1e-4, scale * 0.02,",
            "np.linspace(scale * 1e-4, scale * 0.01,",
            "tests/diffusion/test_schedules.py::test_linear_values",
        ),
        (
            "linear_not_scaled_to_its_length",
            "scale = 1000.0 / num_steps",
            "scale = 1.0",
            "tests/diffusion/test_schedules.py::test_other_lengths_keep_the_end",
        ),
        (
            "steps_rounded_down",
            "steps.extend(start + round(k * stride)",
            "steps.extend(start + int(k * stride)",
            "tests/diffusion/test_schedules.py::test_openai_step_lists",
        ),
        (
            "respaced_network_sees_new_numbers",
            "timesteps=schedule.timesteps[kept])",
            "timesteps=np.arange(len(kept)))",
            "tests/diffusion/test_schedules.py::test_karlo_respaced_process",
        ),
        (
            "levels_one_off",
            "index = jnp.where(index == CLEAN, self.num_steps, index)",
            "index = jnp.where(index == CLEAN, self.num_steps, jnp.maximum(index - 1, 0))",
            "tests/diffusion/test_schedules.py::test_levels_and_the_clean_one",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/timesteps.py",
        (
            "timestep_0_never_trained",
            "jax.random.randint(key, (), 0, num_steps)",
            "jax.random.randint(key, (), 1, num_steps)",
            "tests/diffusion/test_variance.py::test_uniform_timesteps_are_uniform_and_by_key",
        ),
        (
            "held_out_strata_at_their_start",
            "(np.arange(count) + 0.5)",
            "np.arange(count)",
            "tests/diffusion/test_schedules.py::test_held_out_timesteps_are_stratified",
        ),
    ),
    *faults_in(
        "unclip_jax/diffusion/variance.py",
        (
            "learned_range_upside_down",
            "jnp.exp((1.0 - fraction) *",
            "jnp.exp(fraction *",
            "tests/diffusion/test_variance.py::test_step_variance",
        ),
        (
            "analytic_weight_not_squared",
            "step.x0_weight**2 * x0_error",
            "step.x0_weight * x0_error",
            "tests/diffusion/test_variance.py::test_step_variance",
        ),
        (
            "fixed_large_is_small",
            "        return skip_beta(t, s)\n    if kind",
            "        return posterior(t, s).variance\n    if kind",
            "tests/diffusion/test_variance.py::test_step_variance",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/attention.py",
        (
            "causal_mask_transposed",
            "jnp.tril(jnp.ones((length, length), bool))",
            "jnp.triu(jnp.ones((length, length), bool))",
            "tests/nn/test_transformer.py::test_causal_outputs_see_no_later_input",
        ),
        (
            "caption_ends_before_its_eot",
            "[None] <= tokens.argmax(-1)",
            "[None] < tokens.argmax(-1)",
            "tests/nn/test_attention.py::test_until_eot_ends_at_the_largest_id",
        ),
        (
            "attention_scaled_by_the_width",
            "jnp.asarray(q.shape[-1] ** -0.5, q.dtype)",
            "jnp.asarray((q.shape[-1] * q.shape[-2]) ** -0.5, q.dtype)",
            "tests/nn/test_attention.py::test_attend_equals_a_loop",
        ),
        (
            "logits_in_half_precision",
            "preferred_element_type=jnp.float32",
            "preferred_element_type=q.dtype",
            "tests/nn/test_attention.py::test_half_precision_logits_are_compared_in_float32",
        ),
        (
            "heads_after_parts",
            "jnp.split(x.reshape(b, n, heads, -1), parts, axis=-1)",
            "[p.reshape(b, n, heads, -1) for p in jnp.split(x, parts, axis=-1)]",
            "tests/nn/test_attention.py::test_split_heads_reads_q_k_v_head_by_head",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/causal.py",
        (
            "cached_step_blind_to_itself",
            "jnp.arange(k.shape[1])[None] <= own[:, None]",
            "jnp.arange(k.shape[1])[None] < own[:, None]",
            "tests/models/test_prior_ar.py::test_cached_steps_equal_the_whole_pass",
        ),
        (
            "kv_cache_one_position_off",
            "k, v = put(cache.k, k, index, axis=1), put(cache.v, v, index, axis=1)",
            "k, v = put(cache.k, k, index, axis=1), put(cache.v, v, index + 1, axis=1)",
            "tests/models/test_prior_ar.py::test_cached_steps_equal_the_whole_pass",
        ),
        (
            "cross_attention_sees_padding",
            "attend(q, k, v, key_mask(reading.visible))",
            "attend(q, k, v)",
            "tests/models/test_prior_ar.py::test_padding_is_hidden",
        ),
        (
            "code_prior_not_causal",
            "mask = causal_mask(x.shape[1])",
            "mask = None",
            "tests/models/test_prior_ar.py::test_logits_are_causal",
        ),
        (
            "code_prior_drops_at_sampling",
            "drop = nn.Dropout(cfg.dropout, deterministic=not train)",
            "drop = nn.Dropout(cfg.dropout, deterministic=train)",
            "tests/nn/test_transformer.py::test_every_layer_drops_in_training_by_a_draw_of_its_own",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/embeddings.py",
        (
            "sines_before_cosines",
            "[jnp.cos(angles), jnp.sin(angles)]",
            "[jnp.sin(angles), jnp.cos(angles)]",
            "tests/nn/test_embeddings.py::test_sinusoid_is_cosines_then_sines",
        ),
        (
            "time_embedding_without_silu",
            'name="fc_2", **exact)(nn.silu(x))',
            'name="fc_2", **exact)(x)',
            "tests/nn/test_embeddings.py::test_time_embedding_equals_its_formula",
        ),
        (
            "positions_forgotten",
            "return x + table[None].astype(x.dtype)",
            "return x + 0 * table[None].astype(x.dtype)",
            "tests/nn/test_embeddings.py::test_tokens_are_rows_of_their_table_and_positions_are_added",
        ),
        (
            "tokens_scaled_by_the_width",
            "jnp.take(table, tokens, axis=0).astype(self.dtype)",
            "jnp.take(table, tokens, axis=0).astype(self.dtype) * self.width**0.5",
            "tests/nn/test_embeddings.py::test_tokens_are_rows_of_their_table_and_positions_are_added",
        ),
        (
            "patches_by_column",
            "x.reshape(b, h // factor, factor, w // factor, factor, c).transpose(0, 1, 3, 2, 4, 5)",
            "x.reshape(b, h // factor, factor, w // factor, factor, c).transpose(0, 1, 3, 4, 2, 5)",
            "tests/nn/test_embeddings.py::test_space_to_depth_moves_blocks_and_comes_back",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/layers.py",
        (
            "epsilon_of_flax",
            "EPS = 1e-5",
            "EPS = 1e-6",
            "tests/nn/test_layers.py::test_layer_norm_equals_numpy_and_returns_the_compute_type",
        ),
        (
            "group_norm_scale_without_one",
            "a, d = a * (1 + scale), d * (1 + scale) + shift",
            "a, d = a * scale, d * scale + shift",
            "tests/nn/test_layers.py::test_group_norm_equals_numpy_also_far_from_zero",
        ),
        (
            "group_norm_of_interleaved_groups",
            "jnp.repeat(means, c // self.groups, axis=1)",
            "jnp.tile(means, (1, c // self.groups))",
            "tests/nn/test_layers.py::test_group_norm_equals_numpy_also_far_from_zero",
        ),
        (
            "gelu_by_tanh",
            "nn.gelu(x, approximate=False)",
            "nn.gelu(x, approximate=True)",
            "tests/nn/test_layers.py::test_activations_equal_their_definitions",
        ),
        (
            "torch_init_too_wide",
            "variance_scaling(1 / 3, ",
            "variance_scaling(1.0, ",
            "tests/nn/test_layers.py::test_dense_starts_like_torch",
        ),
        (
            "layer_norm_in_half_precision",
            "            epsilon=EPS,\n            dtype=jnp.float32,",
            "            epsilon=EPS,\n            dtype=self.dtype,",
            "tests/nn/test_layers.py::test_norms_are_computed_in_float32_whatever_they_return",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/transformer.py",
        (
            "block_without_residual",
            'x = x + drop(Mlp(cfg, dtype, name="mlp")(LayerNorm(dtype, name="ln_2")(x)))',
            'x = drop(Mlp(cfg, dtype, name="mlp")(LayerNorm(dtype, name="ln_2")(x)))',
            "tests/checkpoint/test_karlo_golden.py::test_prior",
        ),
        (
            "dropout_at_eval",
            "drop = nn.Dropout(cfg.dropout, deterministic=not train)",
            "drop = nn.Dropout(cfg.dropout, deterministic=False)",
            "tests/nn/test_transformer.py::test_every_layer_drops_in_training_by_a_draw_of_its_own",
        ),
        (
            "one_dropout_for_all_scanned_layers",
            'split_rngs={"params": True, "dropout": True}',
            'split_rngs={"params": True, "dropout": False}',
            "tests/nn/test_transformer.py::test_every_layer_drops_in_training_by_a_draw_of_its_own",
        ),
        (
            "layers_stacked_by_name",
            "key=lambda k: int(k[7:]))",
            "key=lambda k: k)",
            "tests/nn/test_transformer.py::test_layers_are_stacked_by_their_number",
        ),
        (
            "residual_init_not_scaled_by_depth",
            "normal(cfg.width**-0.5 * (2 * cfg.layers) ** -0.5)",
            "normal(cfg.width**-0.5)",
            "tests/models/test_clip.py::test_initial_deviations_are_clips",
        ),
        (
            "mlp_activation_fixed",
            "ACTIVATIONS[cfg.activation](",
            'ACTIVATIONS["gelu"](',
            "tests/checkpoint/test_karlo_golden.py",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/unet_blocks.py",
        (
            "scale_and_shift_swapped",
            "scale, shift = jnp.split(emb, 2, axis=-1)",
            "shift, scale = jnp.split(emb, 2, axis=-1)",
            "tests/checkpoint/test_karlo_golden.py::test_decoder",
        ),
        (
            "upsampled_after_the_convolution",
            'h = move(nn.silu(GroupNorm(self.groups, dtype, name="norm_1")(x)))\n        h = conv(features, ("embed", "mlp"), name="conv_1", dtype=dtype)(h)',
            'h = nn.silu(GroupNorm(self.groups, dtype, name="norm_1")(x))\n        h = move(conv(features, ("embed", "mlp"), name="conv_1", dtype=dtype)(h))',
            "tests/checkpoint/test_karlo_golden.py::test_super_resolution",
        ),
        (
            "image_hidden_with_its_context",
            "constant_values=True))",
            "constant_values=False))",
            "tests/nn/test_unet_blocks.py::test_attention_sees_the_visible_context_and_every_pixel",
        ),
        (
            "time_added_after_the_norm",
            "h = norm(h + emb[:, None, None])",
            "h = norm(h) + emb[:, None, None]",
            "tests/checkpoint/test_karlo_golden.py::test_super_resolution",
        ),
        (
            "block_dropout_at_eval",
            "h = nn.Dropout(self.dropout, deterministic=not train)",
            "h = nn.Dropout(self.dropout, deterministic=False)",
            "tests/nn/test_unet_blocks.py::test_a_res_block_drops_in_training_only",
        ),
        (
            "halving_takes_every_second_pixel",
            "return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))",
            "return x[:, ::2, ::2]",
            "tests/nn/test_unet_blocks.py::test_halve_averages_and_double_repeats",
        ),
    ),
    *faults_in(
        "unclip_jax/models/clip.py",
        (
            "text_pooled_at_the_last_position",
            "tokens.argmax(-1)[:, None, None]",
            "jnp.full((tokens.shape[0], 1, 1), tokens.shape[1] - 1)",
            "tests/models/test_clip.py::test_text_embedding_is_the_state_at_the_end_of_text",
        ),
        (
            "clip_text_bidirectional",
            "stack(x, mask=causal_mask(cfg.context), train=train)",
            "stack(x, train=train)",
            "tests/models/test_clip.py::test_tokens_change_no_earlier_state",
        ),
        (
            "image_pooled_over_patches",
            "(stack(x, train=train)[:, 0])",
            "(stack(x, train=train).mean(1))",
            "tests/models/test_clip.py::test_image_embedding_is_of_the_class_token",
        ),
        (
            "clip_without_norm_before_the_blocks",
            'x = LayerNorm(dtype, name="ln_pre")(x)',
            'LayerNorm(dtype, name="ln_pre")(x)',
            "tests/models/test_clip.py::test_image_embedding_is_of_the_class_token",
        ),
        (
            "clip_resizes_without_antialias",
            'jax.image.resize(images, (n, new_h, new_w, 3), "cubic")',
            'jax.image.resize(images, (n, new_h, new_w, 3), "cubic", antialias=False)',
            "tests/models/test_clip.py::test_images_are_shrunk_with_antialias",
        ),
        (
            "clip_crops_the_corner",
            "top, left = (new_h - size) // 2, (new_w - size) // 2",
            "top, left = 0, 0",
            "tests/models/test_clip.py::test_preprocess_squashes_or_crops_and_standardises",
        ),
        (
            "clip_statistics_of_minus_one_to_one",
            "((images.astype(jnp.float32) + 1) / 2 - mean) / std",
            "(images.astype(jnp.float32) - mean) / std",
            "tests/models/test_clip.py::test_preprocess_squashes_or_crops_and_standardises",
        ),
        (
            "contrast_over_images_only",
            "return -(rows + columns) / (2 * logits.shape[0])",
            "return -(rows + rows) / (2 * logits.shape[0])",
            "tests/models/test_clip.py::test_loss_equals_numpy",
        ),
        (
            "temperature_never_bounded_below",
            'jnp.clip(params["logit_scale"], 0.0, MAX_LOGIT_SCALE)',
            'jnp.minimum(params["logit_scale"], MAX_LOGIT_SCALE)',
            "tests/models/test_clip.py::test_temperature_never_rises_above_one",
        ),
        (
            "embedding_not_normalised_in_the_loss",
            "image_emb, text_emb = normalize(image_emb), normalize(text_emb)",
            "image_emb, text_emb = normalize(image_emb), text_emb",
            "tests/models/test_clip.py::test_loss_equals_numpy",
        ),
    ),
    *faults_in(
        "unclip_jax/models/decoder.py",
        (
            "glide_caption_vector_of_the_first_position",
            "to_time(states[:, -1])",
            "to_time(states[:, 0])",
            "tests/models/test_decoder.py",
        ),
        (
            "glide_text_encoder_causal",
            'x = Transformer(cfg.transformer, dtype, name="transformer")(x, train=train)',
            'x = Transformer(cfg.transformer, dtype, name="transformer")(\n            x, mask=jnp.tril(jnp.ones((1, 1, cfg.context, cfg.context), bool)), train=train\n        )',
            "tests/models/test_decoder.py",
        ),
        (
            "padding_read_by_the_text_encoder",
            "x = jnp.where(visible[..., None], x, pad[None])",
            "x = x + 0 * pad[None]",
            "tests/models/test_decoder.py::test_text_encoder_replaces_padding_by_learned_vectors",
        ),
        (
            "image_tokens_laid_out_by_token",
            "tokens.reshape(-1, cfg.context_dim, cfg.image_tokens).swapaxes(1, 2)",
            "tokens.reshape(-1, cfg.image_tokens, cfg.context_dim)",
            "tests/checkpoint/test_karlo_golden.py::test_decoder",
        ),
        (
            "decoder_forgets_the_embedding_norm",
            "z = normalise(cond.image_emb, self.norm, stats)",
            "z = cond.image_emb",
            "tests/models/test_decoder.py::test_l2_embedding_ignores_its_length",
        ),
        (
            "null_image_where_it_is_kept",
            "jnp.where(cond.image_keep[:, None], z, null)",
            "jnp.where(cond.image_keep[:, None], null, z)",
            "tests/models/test_decoder.py::test_a_dropped_embedding_is_ignored",
        ),
        (
            "caption_not_in_the_time_embedding",
            "emb = emb + text_emb",
            "emb = emb + 0 * text_emb",
            "tests/models/test_decoder.py::test_each_path_of_the_caption_is_used",
        ),
        (
            "caption_mask_never_used",
            "jnp.concatenate(masks, 1) if masks and cfg.mask_text else None",
            "None",
            "tests/models/test_decoder.py::test_padded_text_states_are_seen_unless_masked",
        ),
    ),
    *faults_in(
        "unclip_jax/models/embedding_codec.py",
        (
            "norm_inverse_keeps_the_scale",
            "z = z.astype(jnp.float32) / norm.scale",
            "z = z.astype(jnp.float32)",
            "tests/models/test_embedding_codec.py::test_l2_has_the_scale_as_length_and_returns_directions",
        ),
        (
            "norm_inverse_forgets_the_mean",
            "z = z * stats.std[None] + stats.mean[None]",
            "z = z * stats.std[None]",
            "tests/models/test_embedding_codec.py::test_standardise_subtracts_the_mean_and_comes_back",
        ),
        (
            "text_input_of_unit_length",
            'EmbeddingNorm("l2", text_emb.shape[-1] ** 0.5)',
            'EmbeddingNorm("l2")',
            "tests/models/test_embedding_codec.py::test_text_input_has_unit_variance_or_is_raw",
        ),
        (
            "statistics_are_trained",
            "return jax.lax.stop_gradient(EmbeddingStats(jnp.asarray(mean), jnp.asarray(std)))",
            "return EmbeddingStats(jnp.asarray(mean), jnp.asarray(std))",
            "tests/models/test_embedding_codec.py::test_statistics_are_parameters_without_gradient",
        ),
    ),
    *faults_in(
        "unclip_jax/models/pca.py",
        (
            "eigenvalues_ascending",
            "values, rows = np.maximum(values[::-1], 0.0), vectors.T[::-1]",
            "values, rows = np.maximum(values, 0.0), vectors.T",
            "tests/models/test_pca.py::test_components_are_those_of_the_singular_value_decomposition",
        ),
        (
            "components_by_column",
            "vectors.T[::-1]",
            "vectors[::-1]",
            "tests/models/test_pca.py::test_components_are_those_of_the_singular_value_decomposition",
        ),
        (
            "pca_mean_not_added",
            "return jnp.asarray(pca.mean)[None] + rows",
            "return rows",
            "tests/models/test_pca.py::test_all_components_give_the_unit_embedding_back",
        ),
        (
            "pca_of_raw_embeddings",
            "return Moments.of(rows / np.maximum(length, 1e-12))",
            "return Moments.of(rows)",
            "tests/models/test_pca.py::test_components_are_those_of_the_singular_value_decomposition",
        ),
        (
            "moments_merge_without_the_gap",
            "self.scatter + other.scatter + spread",
            "self.scatter + other.scatter",
            "tests/models/test_pca.py::test_moments_of_shards_merge_to_those_of_all",
        ),
        (
            "component_too_few",
            "np.searchsorted(explained_variance(pca), share * (1 - 1e-12)) + 1)",
            "np.searchsorted(explained_variance(pca), share * (1 - 1e-12)))",
            "tests/models/test_pca.py::test_shares_of_the_variance",
        ),
    ),
    *faults_in(
        "unclip_jax/models/prior_ar.py",
        (
            "code_predicted_from_itself",
            "self.code_embed(codes[:, :-1])",
            "self.code_embed(codes[:, 1:])",
            "tests/models/test_prior_ar.py::test_cached_steps_equal_the_whole_pass",
        ),
        (
            "step_one_position_late",
            "index = number + PREFIX - 1\n",
            "index = number + PREFIX - 2\n",
            "tests/models/test_prior_ar.py::test_cached_steps_equal_the_whole_pass",
        ),
        (
            "ar_text_encoder_causal",
            "x = blocks(x, mask=key_mask(visible), train=train)",
            "x = blocks(x, mask=key_mask(visible) & jnp.tril(jnp.ones((cfg.context, cfg.context), bool))[None, None], train=train)",
            "tests/models/test_prior_ar.py",
        ),
        (
            "ar_text_encoder_sees_padding",
            "x = blocks(x, mask=key_mask(visible), train=train)",
            "x = blocks(x, train=train)",
            "tests/models/test_prior_ar.py::test_padding_is_hidden",
        ),
        (
            "prefix_in_another_order",
            "return jnp.concatenate([first, second, bos], axis=1)",
            "return jnp.concatenate([second, first, bos], axis=1)",
            "tests/models/test_prior_ar.py::test_the_sequence_begins_with_dot_text_embedding_and_first_token",
        ),
        (
            "z_t_raw_in_the_ar_prior",
            "text_emb = text_emb_input(cond.text.text_emb, self.cfg.text_emb_input)",
            "text_emb = cond.text.text_emb",
            "tests/models/test_prior_ar.py::test_the_sequence_begins_with_dot_text_embedding_and_first_token",
        ),
    ),
    *faults_in(
        "unclip_jax/models/prior_codes.py",
        (
            "codes_rounded",
            "code = jnp.floor((x + 1.0) * (buckets / 2))",
            "code = jnp.round((x + 1.0) * (buckets / 2))",
            "tests/models/test_prior_codes.py::test_codes_are_the_documented_buckets_of_the_coordinates",
        ),
        (
            "codes_permuted",
            "quantise(pca_lib.project(codec.basis(), z) / scale, cfg.buckets)",
            "quantise((pca_lib.project(codec.basis(), z) / scale)[:, ::-1], cfg.buckets)",
            "tests/models/test_prior_codes.py::test_codes_are_the_documented_buckets_of_the_coordinates",
        ),
        (
            "dot_token_of_the_lower_half",
            "place = (low + (1.0 - low) * u) * (QUANTILES - 1)",
            "place = (1.0 - low) * u * (QUANTILES - 1)",
            "tests/models/test_prior_codes.py::test_dots_are_drawn_above_the_percentile",
        ),
        (
            "buckets_by_the_variance",
            "np.maximum(np.sqrt(values), 1e-4)",
            "np.maximum(values, 1e-4)",
            "tests/models/test_prior_codes.py::test_codes_are_the_documented_buckets_of_the_coordinates",
        ),
        (
            "dot_of_raw_embeddings",
            "dots = (normalize(image_emb) * normalize(text_emb)).sum(-1)",
            "dots = (image_emb * text_emb).sum(-1)",
            "tests/models/test_prior_codes.py::test_dot_codes_are_buckets_of_the_cosine",
        ),
        (
            "decoded_not_of_unit_length",
            "return normalize(pca_lib.reconstruct(codec.basis(), coordinates))",
            "return pca_lib.reconstruct(codec.basis(), coordinates)",
            "tests/models/test_prior_codes.py::test_decoded_coordinates_are_within_half_a_bucket_and_the_vector_is_unit",
        ),
    ),
    *faults_in(
        "unclip_jax/models/prior_diffusion.py",
        (
            "estimate_read_beside_the_query",
            'LayerNorm(dtype, name="ln_final")(x[:, -1])',
            'LayerNorm(dtype, name="ln_final")(x[:, -2])',
            "tests/models/test_prior_diffusion.py::test_the_learned_query_is_used",
        ),
        (
            "diffusion_prior_bidirectional",
            "mask = causal_mask(cfg.context + EXTRA)",
            "mask = jnp.ones((1, 1, cfg.context + EXTRA, cfg.context + EXTRA), bool)",
            "tests/checkpoint/test_karlo_golden.py::test_prior",
        ),
        (
            "prior_padding_visible",
            "mask = mask & key_mask(visible)",
            "mask = mask & key_mask(visible | True)",
            "tests/models/test_prior_diffusion.py::test_padding_is_seen_unless_masked",
        ),
        (
            "time_after_the_noised_embedding",
            '            TimeEmbedding(width, width, name="time_embed")(t).astype(dtype),\n            dense(width, ("cond", "embed"), name="image_emb_proj", dtype=dtype)(x_t),',
            '            dense(width, ("cond", "embed"), name="image_emb_proj", dtype=dtype)(x_t),\n            TimeEmbedding(width, width, name="time_embed")(t).astype(dtype),',
            "tests/checkpoint/test_karlo_golden.py::test_prior",
        ),
    ),
    *faults_in(
        "unclip_jax/models/unet.py",
        (
            "skips_in_wrong_order",
            "h = jnp.concatenate([h, skips.pop()], axis=-1)",
            "h = jnp.concatenate([skips.pop(), h], axis=-1)",
            "tests/checkpoint/test_karlo_golden.py::test_decoder",
        ),
        (
            "unet_without_its_condition",
            "time = time if emb is None else time + emb.astype(jnp.float32)",
            "time = time if emb is None else time + 0 * emb.astype(jnp.float32)",
            "tests/models/test_decoder.py::test_each_path_of_the_image_embedding_is_used",
        ),
        (
            "output_without_silu",
            'h = nn.silu(GroupNorm(cfg.norm_groups, dtype, name="norm_out")(h))',
            'h = GroupNorm(cfg.norm_groups, dtype, name="norm_out")(h)',
            "tests/checkpoint/test_karlo_golden.py::test_decoder",
        ),
        (
            "attention_a_level_too_deep",
            "return self.image_size // self.patch // 2**level in self.attention_resolutions",
            "return self.image_size // self.patch // 2 ** (level - 1) in self.attention_resolutions",
            "tests/models/test_unet.py::test_blocks_stand_where_adm_has_them",
        ),
    ),
    *faults_in(
        "unclip_jax/models/upsampler.py",
        (
            "low_res_before_x_t",
            "jnp.concatenate([x_t.astype(jnp.float32), low_res], axis=-1)",
            "jnp.concatenate([low_res, x_t.astype(jnp.float32)], axis=-1)",
            "tests/checkpoint/test_karlo_golden.py::test_super_resolution",
        ),
        (
            "low_res_resized_linearly",
            "jax.image.resize(low_res, x_t.shape, self.cfg.resize)",
            'jax.image.resize(low_res, x_t.shape, "linear")',
            "tests/models/test_upsampler.py::test_low_res_image_is_used_and_resized_inside",
        ),
    ),
    *faults_in(
        "unclip_jax/models/presets.py",
        (
            "paper_scale_of_z",
            'norm = EmbeddingNorm("l2", 17.2)',
            'norm = EmbeddingNorm("l2", 1.0)',
            "tests/models/test_presets.py",
        ),
    ),
    *faults_in(
        "unclip_jax/text/tokenizer.py",
        (
            "case_kept",
            'return " ".join(text.split()).lower()',
            'return " ".join(text.split())',
            "tests/text/test_tokenizer.py::test_cleaning",
        ),
        (
            "entities_unescaped_once",
            "html.unescape(html.unescape(ftfy.fix_text(",
            "html.unescape((ftfy.fix_text(",
            "tests/text/test_tokenizer.py::test_cleaning",
        ),
        (
            "long_text_keeps_its_end",
            "kept = ids[: context - 2]",
            "kept = ids[-(context - 2) :]",
            "tests/text/test_tokenizer.py::test_long_texts_keep_their_end_and_are_flagged",
        ),
        (
            "mask_ends_before_eot",
            "mask[row, :end] = True",
            "mask[row, : end - 1] = True",
            "tests/text/test_tokenizer.py::test_golden_rows_of_the_reference",
        ),
        (
            "padded_with_eot",
            "tokens = np.full((len(texts), context), PAD_ID, np.int32)",
            "tokens = np.full((len(texts), context), self.eot_id, np.int32)",
            "tests/text/test_tokenizer.py::test_golden_rows_of_the_reference",
        ),
        (
            "pairs_merged_that_occur_once",
            "min_frequency=2",
            "min_frequency=1",
            "tests/text/test_tokenizer.py::test_training_on_few_captions_gives_a_smaller_vocabulary",
        ),
        (
            "contractions_of_lower_case_only",
            'PATTERN = r"(?i:',
            'PATTERN = r"(?:',
            "tests/text/test_tokenizer.py",
        ),
        (
            "special_tokens_in_a_text_obeyed",
            "backend.encode_special_tokens = True",
            "backend.encode_special_tokens = False",
            "tests/text/test_tokenizer.py::test_special_tokens_in_a_text_are_text",
        ),
    ),
    *faults_in(
        "unclip_jax/text/files.py",
        (
            "merges_lose_their_first",
            "        lines = lines[1:]\n",
            "        lines = lines[2:]\n",
            "tests/text/test_tokenizer.py::test_golden_rows_of_the_reference",
        ),
        (
            "openai_merges_not_cut",
            "OPENAI_MERGES = 49152 - 256 - 2",
            "OPENAI_MERGES = 49152 - 256",
            "tests/text/test_tokenizer.py::test_clip_vocabulary_has_clip_s_ids",
        ),
    ),
]
