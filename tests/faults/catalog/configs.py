"""Planted faults of configs/."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "configs/emoji/decoder.py",
        (
            "a_decoder_of_other_steps_than_what_ships",
            '"steps": 15, "step_list": step_list(15)',
            '"steps": 20, "step_list": step_list(20)',
            "tests/test_shipped.py::test_it_is_sampled_as_its_configs_say",
        ),
    ),
    *faults_in(
        "configs/paper/prior_diffusion.py",
        (
            "paper_scale_of_z",
            "config.embedding_norm.scale = 17.2",
            "config.embedding_norm.scale = 1.0",
            "tests/test_paper_models.py::test_embeddings_have_the_papers_length",
        ),
        (
            "paper_prior_draws_once",
            '"num_candidates": 2,',
            '"num_candidates": 1,',
            "tests/test_paper_models.py::test_stages_are_sampled_as_published",
        ),
    ),
    *faults_in(
        "configs/common.py",
        (
            "misspelled_variants_are_the_full_config",
            'if variant not in ("", *known):',
            "if variant in known:",
            "tests/test_configs.py::test_a_misspelled_variant_is_refused",
        ),
    ),
    *faults_in(
        "unclip_jax/core/config_dict.py",
        (
            "optional_fields_lose_their_type",
            "return default if kind is None else",
            "return default if kind is None or default is None else",
            "tests/test_configs.py::test_every_field_of_every_dataclass_can_be_set_by_a_flag",
        ),
    ),
    *faults_in(
        "unclip_jax/train/resolve.py",
        (
            "sizes_of_another_clip_taken",
            "if value != sizes[name]:",
            "if value == 0:",
            "tests/train/test_resolve.py::test_sizes_that_do_not_fit_the_clip_name_the_flag",
        ),
        (
            "unused_sizes_are_changes",
            'values["model"] |= dict.fromkeys(set(unused) & set(values["model"]), None)',
            'values["model"] |= {}',
            "tests/train/test_resolve.py::test_sizes_that_earlier_versions_filled_in_without_need_are_no_change",
        ),
    ),
]
