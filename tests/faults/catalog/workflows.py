"""Planted faults of workflows/embedding.py, workflows/stablehlo.py."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/workflows/info_card.py",
        (
            "card_prints_control_characters",
            "return shorten(one_line(str(value)), LONGEST_CELL)",
            "return str(value)",
            "tests/cli/test_info.py::test_a_card_keeps_to_the_width",
        ),
        (
            "card_without_the_interval_of_guidance",
            '"guidance", "guidance_interval", "distilled_guidance"',
            '"guidance", "distilled_guidance"',
            "tests/cli/test_info.py::test_the_card_says_what_a_user_asks",
        ),
        (
            "sizes_in_the_card_are_of_bytes",
            'size = "" if file is None else f"{file.bytes / 2**20:.2f}"',
            'size = "" if file is None else f"{file.bytes:.2f}"',
            "tests/cli/test_info.py::test_the_card_says_what_a_user_asks",
        ),
    ),
    *faults_in(
        "unclip_jax/workflows/export.py",
        (
            "first_of_each_stage",
            "if last[name] == number]",
            "if names[number] and name not in {n for own in names[:number] for n in own}]",
            "tests/cli/test_export.py::test_the_later_source_of_a_stage_replaces_the_earlier",
        ),
    ),
    *faults_in(
        "unclip_jax/workflows/embedding.py",
        (
            "embeddings_of_another_caption",
            "at = row[caption]",
            'at = row[example["captions"][0]]',
            "tests/workflows/test_embedding.py::test_records_are_the_pictures_and_captions_of_the_source",
        ),
        (
            "samples_laid_out_by_draw",
            "rows, numbers = np.divmod(np.arange(len(chosen) * draws), draws)",
            "numbers, rows = np.divmod(np.arange(len(chosen) * draws), len(chosen))",
            "tests/train/test_prior_samples.py::test_samples_do_not_depend_on_what_else_is_sampled",
        ),
    ),
    *faults_in(
        "unclip_jax/workflows/stablehlo.py",
        (
            "exported_negative_ignored",
            "{plan.negative: take(features, slice(1, 2)),",
            "{plan.negative: take(features, slice(0, 1)),",
            "tests/workflows/test_stablehlo.py::test_own_token_contexts_two_nets_and_a_negative_caption[8]",
        ),
        (
            "exported_seed_ignored",
            "image_keys(root_key(seed), prompt_index",
            "image_keys(root_key(0), prompt_index",
            "tests/workflows/test_stablehlo.py::test_own_token_contexts_two_nets_and_a_negative_caption[8]",
        ),
        (
            "exported_keys_swapped",
            "(seed), prompt_index, draw)",
            "(seed), draw, prompt_index)",
            "tests/workflows/test_stablehlo.py::test_own_token_contexts_two_nets_and_a_negative_caption[8]",
        ),
    ),
]
