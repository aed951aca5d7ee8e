"""Planted faults of unclip_jax/demo."""

from tests.faults.catalog import Fault, faults_in

PAGE = "tests/demo/test_page.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/demo/widgets.py",
        (
            "images_cleared_with_every_step",
            "[] if clear else gr.skip()",
            "[]",
            "tests/demo/test_studio.py::test_a_preview_is_sent_once",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/tabs.py",
        (
            "former_images_kept",
            'said, before, start = "", True,',
            'said, before, start = "", False,',
            "tests/demo/test_studio.py::test_a_preview_is_sent_once",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/choices.py",
        (
            "true_counts_as_one_image",
            "if type(value) in (type(choice), int, float) and value == choice:",
            "if value == choice:",
            "tests/demo/test_choices.py::test_a_choice_is_one_of_a_few",
        ),
        (
            "any_guidance_for_whoever_calls",
            "not math.isfinite(value) or not 0 <= value <= most:",
            "not math.isfinite(value):",
            "tests/demo/test_choices.py::test_numbers_are_bounded",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/commands.py",
        (
            "path_begins_at_the_wrong_end",
            "next(drawn if is_caption else given)",
            "next(given if is_caption else drawn)",
            "tests/demo/test_commands.py::test_ends_that_are_captions_are_drawn_in_their_places",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/inputs.py",
        (
            "only_the_last_layer_is_painted",
            "mask |= painted",
            "mask = painted",
            "tests/demo/test_inputs.py::test_what_is_painted_on_any_layer_is_the_mask",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/page.py",
        (
            "server_fetches_addresses",
            "if any(map(is_url, inputs)):",
            "if not inputs:",
            f"{PAGE}::test_images_that_are_no_uploads_are_refused",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/refusals.py",
        (
            "refusals_with_a_traceback",
            "return gr.Error(line, print_exception=False)",
            "return gr.Error(line)",
            f"{PAGE}::test_an_upload_that_is_no_image_is_refused",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/server.py",
        (
            "files_of_visitors_stay_behind",
            '"GRADIO_TEMP_DIR": str(folder)',
            '"GRADIO_TEMPORARY": str(folder)',
            f"{PAGE}::test_tabs_without_what_they_need_are_not_shown_and_nothing_stays_behind",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/studio.py",
        (
            "two_requests_at_once",
            "ThreadPoolExecutor(max_workers=1,",
            "ThreadPoolExecutor(max_workers=2,",
            "tests/demo/test_studio.py::test_requests_take_turns_and_keep_their_own_images",
        ),
        (
            "work_for_nobody",
            "stopped.set()",
            "stopped.is_set()",
            "tests/demo/test_studio.py::test_work_ends_when_nobody_waits",
        ),
        (
            "results_are_kept_for_ever",
            "if old.stat().st_mtime < oldest:",
            "if old.stat().st_mtime < 0:",
            "tests/demo/test_studio.py::test_old_results_are_removed",
        ),
    ),
]
