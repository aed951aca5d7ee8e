"""Planted faults of models/presets.py, models/stages.py."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/models/presets.py",
        (
            "paper_scale_of_z",
            'norm = EmbeddingNorm("l2", 17.2)',
            'norm = EmbeddingNorm("l2", 1.0)',
            "tests/plan/test_estimate.py::test_the_papers_configs_are_the_papers_models[prior_diffusion]",
        ),
        (
            "paper_prior_draws_once",
            "SamplingConfig(steps=64, x0_bound=None, num_candidates=2)",
            "SamplingConfig(steps=64, x0_bound=None)",
            "tests/models/test_presets.py::test_presets_are_sampled_as_published",
        ),
        (
            "karlo_guidances_alike",
            "SamplingConfig(steps=50, guidance=8.0)",
            "SamplingConfig(steps=50, guidance=4.0)",
            "tests/models/test_presets.py::test_presets_are_sampled_as_published",
        ),
    ),
    *faults_in(
        "unclip_jax/models/stages.py",
        (
            "unit_prior_with_a_raw_decoder",
            'return self.model.embedding_codec is not None or self.norm.kind == "l2"',
            "return self.model.embedding_codec is not None",
            "tests/sampling/test_one_embedding.py::test_a_prior_of_unit_embeddings_needs_a_decoder_that_reads_them",
        ),
        (
            "decoder_reads_raw_embeddings",
            'norm = {"norm": spec.norm} if spec.row.takes_norm else {}',
            'norm = {"norm": EmbeddingNorm("none")} if spec.row.takes_norm else {}',
            "tests/sampling/test_api.py::test_the_embeddings_length_is_normalized_away",
        ),
        (
            "stage_numbers_changed",
            'StageDef("decoder", "decoder", DecoderConfig, Decoder, 3,',
            'StageDef("decoder", "decoder", DecoderConfig, Decoder, 4,',
            "tests/models/test_stages.py::test_stage_numbers_never_change",
        ),
    ),
    *faults_in(
        "unclip_jax/models/decoder.py",
        (
            "left_over_text_encoder_read",
            'return self.text_encoder.context if self.text == "transformer" else None',
            "return self.text_encoder.context if self.text_encoder else None",
            "tests/sampling/test_own_text.py::test_a_left_over_text_encoder_is_not_read",
        ),
    ),
]
