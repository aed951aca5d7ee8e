"""Planted faults of unclip_jax/sampling: mixtures, settings, and what these ask of stage_sampler."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/sampling/mixtures.py",
        (
            "mixture_of_unit_length",
            "return (length * direction).astype(np.float32)",
            "return direction.astype(np.float32)",
            "tests/sampling/test_mixtures.py::test_two_images_turn_by_their_share_of_the_angle",
        ),
        (
            "mixtures_with_noise_of_their_own",
            "keys = image_keys(key, np.zeros_like(draws), draws)",
            "keys = image_keys(key, np.arange(len(draws)), draws)",
            "tests/sampling/test_mixtures.py::test_captions_have_the_embeddings_and_keys_of_sample",
        ),
        (
            "captions_numbered_without_the_images",
            "np.asarray(list(captions))[rows], draws)",
            "rows, draws)",
            "tests/sampling/test_mixtures.py::test_captions_have_the_embeddings_and_keys_of_sample",
        ),
        (
            "negative_weights_ignored",
            "mixed(z[j, count:], mixture.negative_weights,",
            "mixed(z[j, count:], np.ones(len(mixture.negative)) / len(mixture.negative),",
            "tests/sampling/test_mixtures.py::test_the_negative_has_draws_and_a_mean_of_its_own",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/arguments.py",
        (
            "text_for_a_number",
            "if isinstance(value, str) == (wanted is str):",
            "if True:",
            "tests/sampling/test_settings.py::test_a_value_of_another_type_is_one_line",
        ),
        (
            "half_steps",
            '(int, "an integer", operator.index)',
            '(int, "an integer", int)',
            "tests/sampling/test_settings.py::test_a_value_of_another_type_is_one_line",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/inpaint.py",
        (
            "a_filling_in_the_steps_of_another_solver",
            "steps = min(FILL_STEPS, int(levels[0] - levels[-1]) + 1)",
            "steps = num_steps(own)",
            "tests/sampling/test_inpaint.py::test_a_filling_takes_steps_of_ddim_enough",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/latents.py",
        (
            "fresh_noise_by_ddim_in_every_bundle",
            'sampler = "ddim" if draws_noise else own.sampler',
            'sampler = "ddim"',
            "tests/sampling/test_latents.py::test_fresh_noise_takes_the_bundles_sampler_where_it_draws_none",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/stage_sampler.py",
        (
            "guided_outside_of_the_interval",
            "program = dataclasses.replace(net.program, is_guided=inside)",
            "program = dataclasses.replace(net.program, is_guided=not inside)",
            "tests/sampling/test_guidance_interval.py::test_a_numpy_loop_gives_the_same_images",
        ),
        (
            "interval_of_sigma_alone",
            "levels = (plan.schedule.sigma / plan.schedule.alpha)[plan.steps]",
            "levels = plan.schedule.sigma[plan.steps]",
            "tests/sampling/test_guidance_interval.py::test_a_numpy_loop_gives_the_same_images",
        ),
        (
            "negative_not_handed_on",
            "image_keep=cond.image_keep, negative_emb=cond.negative_emb",
            "image_keep=cond.image_keep",
            "tests/sampling/test_mixtures.py::test_guidance_moves_away_from_the_negative_mixture",
        ),
    ),
]
