"""Planted faults of unclip_jax/nn: attention to unet_blocks."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/nn/remat.py",
        (
            "products_computed_again",
            "return checkpoint_name(x, PRODUCT)",
            "return x",
            "tests/models/test_unet.py::test_what_each_policy_computes_again",
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
            "keys_that_fill_up_are_hidden_only",
            "constant_values=ABSENT)",
            "constant_values=HIDDEN)",
            "tests/nn/test_cudnn_attention.py::test_it_is_given_what_our_own_attention_computes",
        ),
        (
            "cudnn_without_the_mask",
            "jnp.where(mask, 0.0, HIDDEN)",
            "jnp.where(mask, 0.0, 0.0)",
            "tests/nn/test_cudnn_attention.py::test_it_is_given_what_our_own_attention_computes",
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
            "attend(q, k, v, key_mask(cross.visible))",
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
            "return x + table[None, first",
            "return x + 0 * table[None, first",
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
            "group_norm_in_half_precision",
            "x = x.astype(jnp.float32)\n        size",
            "x = x.astype(self.dtype)\n        size",
            "tests/nn/test_layers.py::test_norms_are_computed_in_float32_whatever_they_return",
        ),
        (
            "layer_norm_computed_twice",
            "return norm(x).astype(self.dtype)",
            "return (norm(x) / 2 + norm(x) / 2).astype(self.dtype)",
            "tests/plan/test_budgets.py::test_a_program_costs_what_its_budget_says[embedding/captions]",
        ),
        (
            "group_norm_computed_twice",
            "var = self._per_channel(jnp.square(centered).sum((1, 2)), size)",
            "var = sum(self._per_channel(jnp.square(centered).sum((1, 2)), size) / 2 for _ in range(2))",
            "tests/plan/test_budgets.py::test_a_program_costs_what_its_budget_says[sampling/upsampler_256]",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/convolution.py",
        (
            "patches_transposed",
            "for i in range(3) for j in range(3)]",
            "for j in range(3) for i in range(3)]",
            "tests/nn/test_convolution.py::test_patches_are_the_sum_over_neighbors",
        ),
        (
            "tiles_with_a_sign_lost",
            "m[1] - m[2] - m[3]]",
            "m[1] - m[2] + m[3]]",
            "tests/nn/test_convolution.py::test_tiles_are_the_sum_over_neighbors",
        ),
        (
            "tiles_in_half_precision",
            " or x.dtype != jnp.float32:",
            ":",
            "tests/nn/test_convolution.py::test_half_precision_keeps_the_plain_convolution",
        ),
        (
            "patches_on_every_platform",
            "cpu=form, default=by_windows",
            "cpu=by_windows, default=form",
            "tests/nn/test_convolution.py::test_only_a_cpu_multiplies_patches_and_only_where_it_pays",
        ),
        (
            "gradient_of_patches",
            "    y = by_windows(x, kernel)\n",
            "    y = _by_platform(form, x, kernel)\n",
            "tests/nn/test_convolution.py::test_a_training_has_the_program_of_the_plain_convolution",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/transformer.py",
        (
            "block_without_residual",
            'x = x + drop(Mlp(cfg, dtype, name="mlp")(LayerNorm(dtype, name="ln_2")(x)))',
            'x = drop(Mlp(cfg, dtype, name="mlp")(LayerNorm(dtype, name="ln_2")(x)))',
            "tests/convert/test_karlo_golden.py::test_prior",
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
            "layers_unstacked_backwards",
            "for i, layer in enumerate(take)}",
            "for i, layer in enumerate(reversed(take))}",
            "tests/nn/test_transformer.py::test_layers_are_unstacked_by_their_number",
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
            "tests/convert/test_karlo_golden.py::test_text",
        ),
    ),
    *faults_in(
        "unclip_jax/nn/unet_blocks.py",
        (
            "scale_and_shift_swapped",
            "scale, shift = jnp.split(emb, 2, axis=-1)",
            "shift, scale = jnp.split(emb, 2, axis=-1)",
            "tests/convert/test_karlo_golden.py::test_decoder",
        ),
        (
            "upsampled_after_the_convolution",
            'h = move(nn.silu(GroupNorm(self.groups, dtype, name="norm_1")(x)))\n        h = conv(features, ("embed", "mlp"), name="conv_1", dtype=dtype)(h)',
            'h = nn.silu(GroupNorm(self.groups, dtype, name="norm_1")(x))\n        h = move(conv(features, ("embed", "mlp"), name="conv_1", dtype=dtype)(h))',
            "tests/convert/test_karlo_golden.py::test_super_resolution",
        ),
        (
            "image_hidden_with_its_context",
            "constant_values=True))",
            "constant_values=False))",
            "tests/nn/test_unet_blocks.py::test_a_mask_that_hides_nothing_changes_nothing",
        ),
        (
            "time_added_after_the_norm",
            "h = norm(h + emb[:, None, None])",
            "h = norm(h) + emb[:, None, None]",
            "tests/convert/test_karlo_golden.py::test_super_resolution",
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
]
