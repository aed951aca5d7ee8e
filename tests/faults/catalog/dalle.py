"""Planted faults of the discrete VAE and of DALL·E."""

from tests.faults.catalog import Fault, faults_in

LAYERS, TASKS = "tests/models/test_dvae.py::", "tests/train/test_token_tasks.py::"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/models/dvae.py",
        (
            "logit_laplace_without_its_jacobian",
            "+ log_b + jnp.log(2.0 * u * (1.0 - u))",
            "+ log_b + jnp.log(2.0)",
            LAYERS + "test_the_logit_laplace_likelihood_is_that_of_scipy",
        ),
        (
            "logit_laplace_scale_multiplies",
            "distance * jnp.exp(-log_b)",
            "distance * jnp.exp(log_b)",
            LAYERS + "test_the_logit_laplace_likelihood_is_that_of_scipy",
        ),
        (
            "kl_without_the_number_of_codes",
            "(log_q + math.log(logits.shape[-1]))",
            "log_q",
            LAYERS + "test_the_kl_is_the_entropy_below_that_of_uniform_tokens",
        ),
        (
            "gumbel_noise_after_the_temperature",
            "jax.nn.softmax((logits + gumbel) / temperature, axis=-1)",
            "jax.nn.softmax(logits / temperature + gumbel, axis=-1)",
            LAYERS + "test_relaxed_draws_are_the_softmax_and_become_draws_of_it",
        ),
        (
            "tokens_column_by_column",
            "vectors = jnp.take(self.codebook, tokens.reshape(-1, cfg.grid, cfg.grid), axis=0)",
            "vectors = jnp.take(\n"
            "            self.codebook, tokens.reshape(-1, cfg.grid, cfg.grid).swapaxes(1, 2), axis=0\n"
            "        )",
            LAYERS + "test_a_token_is_in_its_place",
        ),
    ),
    *faults_in(
        "unclip_jax/models/dalle.py",
        (
            "image_logits_one_position_late",
            "image = self.image_embed(tokens) + self",
            "image = self.image_embed(jnp.roll(tokens, -1, 1)) + self",
            "tests/models/test_dalle.py::test_no_logit_depends_on_its_own_token_or_a_later_one",
        ),
        (
            "cached_token_at_the_next_position",
            "position = jnp.take(self._image_positions(), number - 1, axis=0)",
            "position = jnp.take(self._image_positions(), number, axis=0)",
            "tests/models/test_dalle.py::test_cached_steps_equal_the_whole_pass",
        ),
        (
            "padding_of_a_caption_is_read",
            "jnp.where(until_eot(tokens)[..., None], self.text_embed(tokens), pad)",
            "self.text_embed(tokens) + 0 * pad",
            "tests/models/test_dalle.py::test_the_caption_reaches_the_first_token_and_padding_does_not",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/tokens.py",
        (
            "caption_weighs_seven_eighths",
            "value = TEXT_SHARE * text_loss + (1.0 - TEXT_SHARE) * losses.mean()",
            "value = (1.0 - TEXT_SHARE) * text_loss + TEXT_SHARE * losses.mean()",
            TASKS + "test_an_eighth_of_the_loss_is_of_the_caption",
        ),
        (
            "dropped_captions_are_learned",
            "(until_eot(text.tokens)[:, 1:] & keep[:, None])",
            "until_eot(text.tokens)[:, 1:]",
            TASKS + "test_a_dropped_caption_is_the_empty_one_and_is_not_learned",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/dvae.py",
        (
            "temperature_ends_too_low",
            "return end + (1.0 - end) * 0.5",
            "return (1.0 - end) * 0.5",
            TASKS + "test_temperature_and_kl_weight_are_annealed",
        ),
        (
            "held_out_tokens_are_soft",
            "jax.nn.one_hot(logits.argmax(-1), cfg.codes), train_cfg.kl_weight",
            "jax.nn.softmax(logits), train_cfg.kl_weight",
            TASKS + "test_the_held_out_loss_is_the_bound_of_the_likeliest_tokens",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/rerank.py",
        (
            "the_longest_candidate_is_kept",
            "    unit = unit64(image_emb.reshape(n * count, width)).reshape(n, count, width)\n",
            "    unit = image_emb.astype(np.float64) + 0 * width\n",
            "tests/sampling/test_tokens.py::test_length_does_not_make_a_candidate_better",
        ),
    ),
]
