"""Planted faults of configs/."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
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
]
