"""Planted faults of unclip_jax/sampling: parallel to stage_sampler."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/sampling/parallel.py",
        (
            "last_examples_lost",
            "index = np.minimum(np.arange(devices * per_device), n - 1)",
            "index = np.arange(devices * per_device) % max(n - 1, 1)",
            "tests/sampling/test_parallel.py::test_split_and_join_are_inverse",
        ),
        (
            "kept_program_of_other_arguments",
            "parts = (*self._key, str(tree), self._shared, device_count())",
            'parts = ("program",)',
            "tests/core/test_ready.py::test_a_mapped_program_is_kept_with_its_key",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/pipeline.py",
        (
            "negative_prompt_ignored",
            "decoder, caption = plan.decoder_sampling, plan.negative",
            'decoder, caption = plan.decoder_sampling, ""',
            "tests/sampling/test_pipeline.py::test_each_stage_gets_the_last_one_s_result_and_its_own_contrast",
        ),
        (
            "negative_prompt_in_the_prior",
            "StageSampler(model, plan.prior_stage, sampling, plan.dtype, monitor=monitor)",
            "StageSampler(model, plan.prior_stage, sampling, uncond_caption=plan.negative)",
            "tests/sampling/test_pipeline.py::test_each_stage_gets_the_last_one_s_result_and_its_own_contrast",
        ),
        (
            "z_t_not_taken_as_z_i",
            "return cond.text.text_emb",
            "return None",
            "tests/sampling/test_pipeline.py::test_without_a_prior_z_i_is_z_t_or_missing",
        ),
        (
            "prompts_numbered_anew",
            "Request(prompt, first + index, draw)",
            "Request(prompt, index, draw)",
            "tests/sampling/test_pipeline.py::test_an_image_has_the_key_and_the_caption_of_its_request",
        ),
        (
            "keys_of_draw_then_prompt",
            "[r.prompt_index for r in batch], [r.draw for r in batch]",
            "[r.draw for r in batch], [r.prompt_index for r in batch]",
            "tests/sampling/test_pipeline.py::test_an_image_has_the_key_and_the_caption_of_its_request",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/programs.py",
        (
            "noise_of_the_step_before",
            "steps = jax.vmap(prng.step_key, in_axes=(0, None))(keys, step + 1)",
            "steps = jax.vmap(prng.step_key, in_axes=(0, None))(keys, step)",
            "tests/sampling/test_stage_sampler.py::test_noise_is_what_the_keys_document",
        ),
        (
            "worst_draw_kept",
            "best = jnp.argmax(score, axis=1)",
            "best = jnp.argmin(score, axis=1)",
            "tests/sampling/test_stage_sampler.py::test_the_best_candidate_is_kept_and_ties_go_to_the_first",
        ),
        (
            "draws_of_other_captions",
            "jnp.repeat(leaf, program.num_candidates, axis=0)",
            "jnp.tile(leaf, (program.num_candidates,) + (1,) * (leaf.ndim - 1))",
            "tests/sampling/test_stage_sampler.py::test_an_examples_candidates_stand_together_with_its_caption",
        ),
        (
            "second_net_begins_again",
            "sampling_plan(program), noise, start=done, count=count)",
            "sampling_plan(program), noise, start=0, count=count)",
            "tests/sampling/test_stage_sampler.py::test_two_nets_share_one_schedule",
        ),
        (
            "low_res_never_rounded",
            "if cond.low_res is not None and program.round_low_res:",
            "if cond.low_res is not None and False:",
            "tests/sampling/test_stage_sampler.py::test_the_low_res_image_is_rounded_to_8_bits",
        ),
        (
            "prior_result_in_the_diffused_space",
            "z = denormalize(x, program.spec.norm, stats_of(params))",
            "z = x",
            "tests/sampling/test_stage_sampler.py::test_a_prior_s_result_leaves_the_space_that_is_diffused_within_its_limits",
        ),
        (
            "initial_noise_never_scaled",
            "return x if scale is None else scale * x",
            "return x",
            "tests/sampling/test_one_embedding.py::test_sampling_may_start_from_less_noise",
        ),
        (
            "guidance_below_one_is_none",
            "is_guided = sampling.guidance != 1.0",
            "is_guided = sampling.guidance > 1.0",
            "tests/sampling/test_api.py::test_guidance_is_the_linear_mix_of_two_predictions",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/prompts.py",
        (
            "marks_dropped_for_every_bundle",
            'ends = "" if not is_of_emoji(model) else _ENDINGS',
            "ends = _ENDINGS",
            "tests/sampling/test_prompts.py::test_plain_prompts_and_other_vocabularies_are_read_as_ever",
        ),
        (
            "clips_own_vocabulary_reworded",
            "if model.tokenizer is None or model.tokenizer.vocab_size == CLIP_VOCAB_SIZE:",
            "if model.tokenizer is None:",
            "tests/sampling/test_prompts.py::test_clips_own_vocabulary_gets_the_prompt_as_it_is",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/settings.py",
        (
            "prior_guidance_for_the_decoder",
            "        guidance=settings.guidance,",
            "        guidance=settings.prior_guidance,",
            "tests/sampling/test_settings.py::test_given_settings_go_to_their_stage",
        ),
        (
            "levels_rounded_down",
            "np.round(np.linspace(first, last, count))",
            "np.linspace(first, last, count)",
            "tests/sampling/test_latents.py::test_levels_fit_between_inversion_and_decoding",
        ),
        (
            "top_p_as_temperature",
            '{"temperature": settings.prior_temperature, "top_p": settings.prior_top_p}',
            '{"temperature": settings.prior_top_p, "top_p": settings.prior_temperature}',
            "tests/sampling/test_codes.py::test_settings_of_a_prior_that_has_none_of_them_are_refused",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/single_stage.py",
        (
            "v_read_as_x0_of_another_sign",
            'source=spec.diffusion.prediction, target="eps"',
            'source="x0", target="eps"',
            "tests/sampling/test_api.py::test_guidance_is_the_linear_mix_of_two_predictions",
        ),
        (
            "examples_share_a_key",
            "keys = prng.example_keys(keys, np.arange(n))",
            "keys = prng.example_keys(keys, np.zeros(n, int))",
            "tests/sampling/test_stage_sampler.py::test_noise_is_what_the_keys_document",
        ),
        (
            "negative_of_a_denoiser_ignored",
            "uncond_text = _caption(own.spec, model, negative)",
            'uncond_text = _caption(own.spec, model, "")',
            "tests/sampling/test_api.py::test_a_negative_caption_takes_the_empty_ones_place",
        ),
        (
            "default_prior_always_diffusion",
            'name = PRIORS.get(model.sampling.prior, "prior") if stage',
            'name = "prior_diffusion" if stage',
            "tests/sampling/test_api.py::test_the_prior_is_the_bundles_default_one",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/stage_sampler.py",
        (
            "second_net_draws_noise_of_its_own",
            "Net(stage, dataclasses.replace(program, spec=stage.spec), count)",
            "Net(stage, ProgramKey.of(stage.spec, sampling, dtype, shape=program.shape), count)",
            "tests/sampling/test_stage_sampler.py::test_two_nets_share_one_schedule",
        ),
        (
            "latent_left_out",
            "programs.start_program(first)(keys, latent), 0",
            "programs.start_program(first)(keys, None), 0",
            "tests/sampling/test_manipulate.py::test_eta_0_is_the_inversion_decoded",
        ),
        (
            "one_finite_value_is_enough",
            "if not np.isfinite(values).all():",
            "if not np.isfinite(values).any():",
            "tests/sampling/test_stage_sampler.py::test_one_number_that_is_not_finite_is_too_many",
        ),
        (
            "low_res_rounded_in_every_bundle",
            "rounds = model.sampling.round_low_res",
            "rounds = True",
            "tests/sampling/test_stage_sampler.py::test_the_bundle_says_whether_small_images_are_rounded",
        ),
        (
            "second_net_runs_alone",
            "if stage in [net.stage for net in s.nets])",
            "if stage == s.nets[0].stage)",
            "tests/sampling/test_stage_sampler.py::test_two_nets_share_one_schedule",
        ),
    ),
]
