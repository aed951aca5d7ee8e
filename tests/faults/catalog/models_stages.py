"""Planted faults of models/stages.py, models/decoder.py."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
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
            "text_encoder_in_every_step",
            "read = {name: self.get_variable(PREFIX, name) for name in CONDITIONING}",
            "read = self._conditioning(cond, stepped[0].shape[0], train)",
            "tests/sampling/test_own_text.py::test_the_text_encoder_is_outside_of_the_denoising_loop",
        ),
        (
            "left_over_text_encoder_read",
            'return self.text_encoder.context if self.text == "transformer" else None',
            "return self.text_encoder.context if self.text_encoder else None",
            "tests/sampling/test_own_text.py::test_a_left_over_text_encoder_is_not_read",
        ),
    ),
]
