"""Planted faults of evals: reports of several bundles, smoke runs, the paper's rows."""

from tests.faults.catalog import Fault, faults_in

SMOKE, COMPARE = "tests/evals/test_smoke.py", "tests/evals/test_compare.py"
PAPER = "tests/evals/test_paper.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/evals/outputs.py",
        (
            "every_suite_reads_every_setting",
            "READ_BY.get(setting, (suite,))",
            "(suite,)",
            "tests/evals/test_runner.py::test_a_report_lists_the_settings_that_its_suite_reads",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/evaluate.py",
        (
            "an_option_without_use_is_taken",
            "and not is_read(suite, name):",
            "and False:",
            "tests/cli/test_evaluate.py::test_an_option_is_refused_where_it_changes_nothing",
        ),
    ),
    *faults_in(
        "unclip_jax/train/inputs.py",
        (
            "every_batch_is_a_line",
            "if clock() - last >= COUNT_SECONDS:",
            "if clock() - last >= 0.0:",
            "tests/train/test_tasks.py::test_what_is_encoded_is_counted_now_and_then",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/smoke.py",
        (
            "smoke_in_all_steps",
            'override(sampling, "", steps=STEPS,',
            'override(sampling, "",',
            f"{SMOKE}::test_samplers_make_two_steps_and_images_of_the_decoders_size",
        ),
        (
            "smoke_asks_for_more",
            "prompts=min(settings.prompts, PROMPTS)",
            "prompts=PROMPTS",
            f"{SMOKE}::test_a_smoke_run_is_small",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/examples.py",
        (
            "smoke_reads_all_training_images",
            "limit = min(limit or SMOKE_IMAGES, SMOKE_IMAGES)",
            "limit = limit and min(limit, SMOKE_IMAGES)",
            f"{SMOKE}::test_training_images_are_few_too",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/runner.py",
        (
            "compared_columns_are_the_first",
            "metrics = [found.get(name) for _, found in runs]",
            "metrics = [runs[0][1].get(name) for _ in runs]",
            f"{COMPARE}::test_metrics_stand_side_by_side",
        ),
        (
            "each_is_judged_by_its_own",
            "settings, recorded = judged, {",
            "settings, recorded = settings, {",
            f"{COMPARE}::test_one_clip_judges_all_columns",
        ),
        (
            "notes_are_not_in_the_text",
            "lines += [line for note in notes for line",
            "lines += [line for note in () for line",
            f"{COMPARE}::test_a_compared_bundle_is_measured_with_the_same_settings",
        ),
        (
            "compared_images_are_lost",
            "path.rename(folder / compared_file(number, path.name))",
            "path.unlink()",
            f"{COMPARE}::test_a_compared_bundle_is_measured_with_the_same_settings",
        ),
        (
            "smoke_report_is_silent",
            'lines += [f"**{WARNING}**", ""]',
            "pass",
            f"{SMOKE}::test_the_report_says_so",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/plots.py",
        (
            "compared_bars_lie_on_each_other",
            "thick * (number - (len(runs) - 1) / 2)",
            "0 * number",
            f"{COMPARE}::test_every_number_of_every_bundle_is_drawn",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/prompts.py",
        (
            "a_prompt_given_twice_ties_with_itself",
            "texts = list(dict.fromkeys((*(prompt.text for prompt in listed), *names)))",
            "texts = [*(prompt.text for prompt in listed), *names]",
            "tests/evals/test_prompts.py::test_every_prompt_gets_a_verdict",
        ),
        (
            "ranks_of_the_wrong_text",
            "np.asarray(own)[:, None] == np.arange(len(text_emb))[None]",
            "np.arange(len(own))[:, None] == np.arange(len(text_emb))[None]",
            "tests/evals/test_prompts.py::test_a_prompt_given_twice_is_one_text",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/paper.py",
        (
            "ours_is_that_of_the_compared",
            'ours = _of_prior(report.get("metrics", {}).get(number.metric), number)',
            'ours = _of_prior(report.get("metrics", {}).get(number.what), number)',
            f"{PAPER}::test_numbers_stand_beside_the_papers",
        ),
        (
            "a_number_of_any_prior",
            'if f", prior {number.prior}," in',
            'if "" in',
            f"{PAPER}::test_a_number_of_another_prior_is_not_ours",
        ),
        (
            "a_smoke_run_has_no_judge",
            "chosen.eval_clip or model",
            "chosen.eval_clip",
            f"{PAPER}::test_a_smoke_run_judges_by_the_models_own_clip",
        ),
        (
            "nothing_run_is_a_report",
            "if not reports:",
            "if reports is None:",
            f"{PAPER}::test_where_nothing_runs_the_reason_is_given",
        ),
    ),
]
