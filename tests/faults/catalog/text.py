"""Planted faults of unclip_jax/text: tokenizer, context, files."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/text/tokenizer.py",
        (
            "case_kept",
            'return " ".join(text.split()).lower()',
            'return " ".join(text.split())',
            "tests/text/test_tokenizer.py::test_cleaning",
        ),
        (
            "entities_unescaped_once",
            "html.unescape(html.unescape(ftfy.fix_text(",
            "html.unescape((ftfy.fix_text(",
            "tests/text/test_tokenizer.py::test_cleaning",
        ),
        (
            "long_text_keeps_its_end",
            "kept = ids[: context - 2]",
            "kept = ids[-(context - 2) :]",
            "tests/text/test_tokenizer.py::test_long_texts_lose_their_last_pieces_keep_eot_and_are_flagged",
        ),
        (
            "mask_ends_before_eot",
            "mask[row, :end] = True",
            "mask[row, : end - 1] = True",
            "tests/text/test_tokenizer.py::test_golden_rows_of_the_reference",
        ),
        (
            "padded_with_eot",
            "tokens = np.full((len(texts), context), PAD_ID, np.int32)",
            "tokens = np.full((len(texts), context), self.eot_id, np.int32)",
            "tests/text/test_tokenizer.py::test_golden_rows_of_the_reference",
        ),
        (
            "pairs_merged_that_occur_once",
            "min_frequency=2",
            "min_frequency=1",
            "tests/text/test_tokenizer.py::test_a_pair_that_occurs_once_is_not_merged",
        ),
        (
            "digits_read_together",
            "|[\\p{N}]|",
            "|[\\p{N}]+|",
            "tests/text/test_tokenizer.py::test_golden_rows_of_the_reference",
        ),
        (
            "special_tokens_in_a_text_obeyed",
            "backend.encode_special_tokens = True",
            "backend.encode_special_tokens = False",
            "tests/text/test_tokenizer.py::test_special_tokens_in_a_text_are_text",
        ),
    ),
    *faults_in(
        "unclip_jax/text/context.py",
        (
            "caption_ends_before_its_eot",
            "[None] <= tokens.argmax(-1)",
            "[None] < tokens.argmax(-1)",
            "tests/text/test_context.py::test_until_eot_ends_at_the_largest_id",
        ),
        (
            "cut_captions_lose_their_end",
            "tokens[:, : context - 1], last[:, None]",
            "tokens[:, :context]",
            "tests/text/test_context.py::test_contexts_are_cut_as_the_tokenizer_cuts_them",
        ),
        (
            "end_cut_at_the_context",
            "tokens.argmax(-1) >= context",
            "tokens.argmax(-1) > context",
            "tests/text/test_context.py::test_a_cut_caption_ends_with_its_end",
        ),
    ),
    *faults_in(
        "unclip_jax/text/files.py",
        (
            "merges_lose_their_first",
            "        lines = lines[1:]\n",
            "        lines = lines[2:]\n",
            "tests/text/test_tokenizer.py::test_golden_rows_of_the_reference",
        ),
        (
            "openai_merges_not_cut",
            "OPENAI_MERGES = 49152 - 256 - 2",
            "OPENAI_MERGES = 49152 - 256",
            "tests/text/test_tokenizer.py::test_clip_vocabulary_has_clip_s_ids",
        ),
    ),
]
