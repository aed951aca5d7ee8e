"""Planted faults of unclip_jax/cli: what is completed, and what a quiet command says."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/cli/common.py",
        (
            "an_empty_path_is_the_current_folder",
            'if value == "":',
            "if False:",
            "tests/cli/test_evaluate.py::test_an_output_has_a_name_and_a_folder",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/evaluate.py",
        (
            "a_bundle_beside_itself",
            "if len({model, *compared}) <= len(compared) and",
            "if False and",
            "tests/cli/test_evaluate.py::test_a_bundle_is_measured_once",
        ),
        (
            "scales_with_a_gap",
            'float(part) for part in text.split(",")',
            'float(part) for part in text.split(",") if part',
            "tests/cli/test_evaluate.py::test_scales_of_a_sweep_are_numbers",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/plan.py",
        (
            "programs_in_the_current_folder",
            "type=common.OutPath(file_okay=False, path_type=Path)",
            "type=click.Path(file_okay=False, path_type=Path)",
            "tests/cli/test_evaluate.py::test_an_output_has_a_name_and_a_folder",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/train.py",
        (
            "a_run_in_the_current_folder",
            "type=common.OutPath(file_okay=False, path_type=Path)",
            "type=click.Path(file_okay=False, path_type=Path)",
            "tests/cli/test_evaluate.py::test_an_output_has_a_name_and_a_folder",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/completion.py",
        (
            "equals_sign_taken_for_a_value",
            'if word != "="]',
            "]",
            "tests/cli/test_completion.py::test_bash_completes_what_is_typed",
        ),
        (
            "folders_after_the_names",
            'return [CompletionItem(incomplete, type="dir"), *names]',
            'return [*names, CompletionItem(incomplete, type="dir")]',
            "tests/cli/test_completion.py::test_bash_completes_what_is_typed",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/evaluate.py",
        (
            "splits_that_have_none_are_measured",
            "return tuple(has_some or ordered)",
            "return tuple(ordered)",
            "tests/cli/test_evaluate.py::test_a_split_without_the_chosen_concepts_is_left_out",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/progress.py",
        (
            "progress_of_a_quiet_command",
            'if _is_quiet or os.environ.get("TQDM_DISABLE"):',
            'if os.environ.get("TQDM_DISABLE"):',
            "tests/cli/test_quiet.py::test_errors_remain",
        ),
        (
            "notes_of_a_quiet_command",
            "if not _is_quiet:",
            "if True:",
            "tests/cli/test_quiet.py::test_training_is_quiet_in_a_terminal_and_in_a_log",
        ),
    ),
]
