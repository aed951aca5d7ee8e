"""Planted faults of unclip_jax/demo."""

from tests.faults.catalog import Fault, faults_in

PAGE, GUARD = "tests/demo/test_page.py", "tests/demo/test_guard.py"
INPUTS = "tests/demo/test_inputs.py"
READ = "test_only_regular_files_of_the_pages_folder_are_read_and_all_others_are_the_same"

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
        "unclip_jax/demo/requests.py",
        (
            "unused_guidance_is_not_checked",
            'own = _guidance(given, "prior_guidance")  #',
            'own = _guidance(given, "prior_guidance") if prior in PRIORS else None  #',
            "tests/demo/test_requests.py::test_a_guidance_that_is_not_used_is_checked_too",
        ),
    ),
    *faults_in(
        "unclip_jax/sampling/prompts.py",
        (
            "control_characters_in_prompts",
            "if control := next((c for c in prompt if _is_control(c)), None):",
            'if control := "":',
            "tests/sampling/test_prompts.py::test_prompts_that_cannot_be_seen_are_refused",
        ),
        (
            "words_of_one_letter_are_known",
            "if len(w) > 1 or not w.isascii()]",
            "if len(w) > 1]",
            "tests/sampling/test_prompts.py::test_a_word_of_one_sign_may_be_unknown",
        ),
    ),
    *faults_in(
        "unclip_jax/data/images.py",
        (
            "uploads_are_kept_at_full_size",
            "return 1 if longest is None else max(1, max(image.size) // longest)",
            "return 1",
            f"{INPUTS}::test_large_images_are_shrunk_as_they_are_decoded",
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
            f"{INPUTS}::test_what_is_painted_on_any_layer_is_the_mask",
        ),
        (
            "any_image_of_the_server_is_read",
            "return read_upload(path, folder)",
            "return Path(path).read_bytes()",
            f"{INPUTS}::{READ}",
        ),
        (
            "links_lead_out_of_the_folder",
            "if inside is None or inside.resolve(strict=True) != inside:",
            "if inside is None:",
            f"{INPUTS}::{READ}",
        ),
        (
            "layers_without_end",
            "str(index) in map(str, range(MOST_LAYERS))",
            "str(index).isdigit()",
            f"{INPUTS}::test_what_is_sent_ahead_is_bounded",
        ),
        (
            "pipes_are_read",
            "if not stat.S_ISREG(os.fstat(descriptor).st_mode):",
            "if descriptor < 0:",
            f"{INPUTS}::{READ}",
        ),
        (
            "previews_count_as_results",
            "return len(parts) == 2 and parts[0].startswith(RESULTS)",
            "return len(parts) == 2",
            f"{INPUTS}::test_only_finished_images_are_results",
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
        (
            "foreign_files_in_other_values",
            "if is_foreign(inputs, self.studio.folder):",
            "if not inputs:",
            f"{GUARD}::test_images_of_the_server_are_not_put_into_a_tab",
        ),
        (
            "work_without_a_listener",
            "if not await self.listeners.come(names, since):",
            "if not names:",
            f"{GUARD}::test_calls_that_nobody_listens_to_are_not_worked_on",
        ),
    ),
    *faults_in(
        "unclip_jax/demo/guard.py",
        (
            "lone_surrogates_reach_gradio",
            "json.dumps(body, ensure_ascii=False).encode()",
            "json.dumps(body)",
            f"{GUARD}::test_text_that_is_no_unicode_is_not_handed_on",
        ),
        (
            "calls_of_what_only_browsers_run",
            "if function is None or function.fn is None:",
            "if function is None:",
            f"{GUARD}::test_events_without_a_function_or_without_their_data_are_refused",
        ),
        (
            "bodies_without_end",
            "if len(data) > MOST_BYTES:",
            "if len(data) < 0:",
            f"{GUARD}::test_calls_of_a_wrong_form_are_refused",
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
