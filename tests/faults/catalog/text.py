"""Planted faults of text/tokenizer.py, text/files.py."""

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
