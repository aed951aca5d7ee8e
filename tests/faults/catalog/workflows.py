"""Planted faults of workflows/embedding.py, workflows/stablehlo.py."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
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
            "rows, draw = np.divmod(np.arange(len(part) * draws), draws)",
            "draw, rows = np.divmod(np.arange(len(part) * draws), len(part))",
            "tests/train/test_sampled.py::test_samples_do_not_depend_on_what_else_is_sampled",
        ),
    ),
    *faults_in(
        "unclip_jax/workflows/stablehlo.py",
        (
            "exported_negative_ignored",
            'features.replace(tokens=own), 0 if contrast == "" else 1',
            "features.replace(tokens=own), 0",
            "tests/workflows/test_stablehlo.py::test_own_token_contexts_two_nets_and_a_negative_caption[8]",
        ),
        (
            "exported_seed_ignored",
            "root = prng.root_key(seed)",
            "root = prng.root_key(0)",
            "tests/workflows/test_stablehlo.py::test_own_token_contexts_two_nets_and_a_negative_caption[8]",
        ),
        (
            "exported_keys_swapped",
            "in_axes=(None, 0, 0))(root, prompt_index, draw)",
            "in_axes=(None, 0, 0))(root, draw, prompt_index)",
            "tests/workflows/test_stablehlo.py::test_own_token_contexts_two_nets_and_a_negative_caption[8]",
        ),
    ),
]
