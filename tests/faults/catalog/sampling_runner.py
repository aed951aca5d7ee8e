"""Planted faults of unclip_jax/sampling: runner to single_stage."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/sampling/runner.py",
        (
            "image_keys_swapped",
            "return _fold(root, np.asarray(index, np.uint32), np.asarray(draw, np.uint32))",
            "return _fold(root, np.asarray(draw, np.uint32), np.asarray(index, np.uint32))",
            "tests/sampling/test_chain.py::test_an_image_s_key_is_folded_with_its_prompt_and_then_its_draw",
        ),
        (
            "latent_left_out",
            "report, split[2])",
            "report, None)",
            "tests/sampling/test_manipulate.py::test_eta_0_is_the_inversion_decoded",
        ),
        (
            "one_finite_value_is_enough",
            "if not np.isfinite(made).all():",
            "if not np.isfinite(made).any():",
            "tests/sampling/test_chain.py::test_one_number_that_is_not_finite_is_too_many",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/runs.py",
        (
            "guidance_below_one_is_none",
            "guided=sampling.guidance != 1.0",
            "guided=sampling.guidance > 1.0",
            "tests/sampling/test_api.py::test_guidance_is_the_linear_mix_of_two_predictions",
        ),
        (
            "low_res_rounded_in_every_bundle",
            "round_low_res=model.sampling.round_low_res",
            "round_low_res=True",
            "tests/sampling/test_chain.py::test_the_bundle_says_whether_small_images_are_rounded",
        ),
        (
            "second_net_runs_alone",
            "if stage in [net.stage for net in step.nets]:",
            "if stage == step.nets[0].stage:",
            "tests/sampling/test_stages.py::test_two_nets_share_one_schedule",
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
        "unclip_jax/sampling/settings.py",
        (
            "prior_guidance_for_the_decoder",
            "            guidance=settings.guidance,",
            "            guidance=settings.prior_guidance,",
            "tests/sampling/test_settings.py::test_given_settings_go_to_their_stage",
        ),
        (
            "levels_rounded_down",
            "np.round(np.linspace(first, last, count))",
            "np.linspace(first, last, count)",
            "tests/sampling/test_manipulate.py::test_levels_fit_between_inversion_and_decoding",
        ),
        (
            "top_p_as_temperature",
            '{"temperature": settings.prior_temperature, "top_p": settings.prior_top_p}',
            '{"temperature": settings.prior_top_p, "top_p": settings.prior_temperature}',
            "tests/sampling/test_codes.py::test_settings_of_a_prior_that_has_none_of_them_are_refused",
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
        "unclip_jax/sampling/single_stage.py",
        (
            "examples_share_a_key",
            "keys = prng.example_keys(keys, np.arange(n))",
            "keys = prng.example_keys(keys, np.zeros(n, int))",
            "tests/sampling/test_stages.py::test_noise_is_what_the_keys_document",
        ),
        (
            "negative_of_a_denoiser_ignored",
            "_negative(model, name, negative))",
            '_negative(model, name, ""))',
            "tests/sampling/test_api.py::test_a_negative_caption_takes_the_empty_ones_place",
        ),
        (
            "default_prior_always_diffusion",
            'name = PRIORS.get(model.sampling.prior, "prior") if stage',
            'name = "prior_diffusion" if stage',
            "tests/sampling/test_api.py::test_the_prior_is_the_bundles_default_one",
        ),
    ),
]
