"""Planted faults of unclip_jax/data: lists to config."""

from tests.faults.catalog import Fault, faults_in

PAIRS = "tests/data/test_pairs.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/data/lists.py",
        (
            "rows_counted_from_zero",
            "enumerate(read(path), start=1)",
            "enumerate(read(path))",
            "tests/data/test_readers.py::test_rows_that_name_no_image_are_counted_from_one",
        ),
        (
            "headers_by_their_case",
            "{str(key).strip().lower(): value for key",
            "{str(key).strip(): value for key",
            "tests/data/test_readers.py::test_rows_of_a_list_are_images_from_its_folder",
        ),
        (
            "byte_order_mark_in_the_header",
            'with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:',
            'with path.open(encoding="utf-8", errors="replace", newline="") as file:',
            "tests/data/test_readers.py::test_rows_of_a_list_are_images_from_its_folder",
        ),
        (
            "commas_in_tsv",
            'delimiter="\\t" if tabs else ","',
            'delimiter=","',
            "tests/data/test_readers.py::test_rows_of_a_list_are_images_from_its_folder",
        ),
        (
            "title_before_caption",
            '("captions", "caption", "text", "sentences", "title", "txt")',
            '("title", "captions", "caption", "text", "sentences", "txt")',
            "tests/data/test_readers.py::test_the_usual_names_of_captions_in_their_order",
        ),
    ),
    *faults_in(
        "unclip_jax/data/tars.py",
        (
            "samples_by_the_last_dot",
            'stem, _, end = base.partition(".")',
            'stem, _, end = base.rpartition(".")',
            "tests/data/test_readers.py::test_members_of_a_tar_are_samples_by_the_name_up_to_the_first_dot",
        ),
        (
            "samples_of_all_folders_are_one",
            'name = f"{folder}/{stem}" if folder else stem',
            "name = stem",
            "tests/data/test_readers.py::test_members_of_a_tar_are_samples_by_the_name_up_to_the_first_dot",
        ),
        (
            "the_last_image_counts",
            "if (sample.image is not None) if is_image else",
            "if False if is_image else",
            "tests/data/test_readers.py::test_members_of_a_tar_are_samples_by_the_name_up_to_the_first_dot",
        ),
        (
            "endings_by_their_case",
            'f".{end.lower()}"',
            'f".{end}"',
            "tests/data/test_readers.py::test_members_of_a_tar_are_samples_by_the_name_up_to_the_first_dot",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sources.py",
        (
            "metadata_of_any_number_kept",
            "if len(self) <= INFO_LIMIT:",
            "if len(self) > 0:",
            "tests/data/test_sources.py::test_metadata_are_cached_for_small_sources_alone",
        ),
        (
            "subset_ignores_its_order",
            "return self.source[int(self.indices[index])]",
            "return self.source[int(np.sort(self.indices)[index])]",
            "tests/data/test_sources.py::test_a_subset_is_in_the_order_given",
        ),
        (
            "info_of_another_example",
            "return self.source.info(int(self.indices[index]))",
            "return self.source.info(int(index))",
            "tests/data/test_sources.py::test_a_subset_is_in_the_order_given",
        ),
        (
            "mixture_places_not_its_sources",
            "index - part.start",
            "index",
            "tests/data/test_sources.py::test_a_mixture_has_its_sources_one_after_the_other",
        ),
        (
            "flags_of_countries_alone",
            '("flag", "country-flag", "subdivision-flag")',
            '("flag", "country-flag")',
            "tests/data/test_sources.py::test_examples_are_chosen_by_concept_style_and_category",
        ),
        (
            "concept_labels_not_stripped",
            "frozenset(label.strip() for label",
            "frozenset(label for label",
            "tests/data/test_sources.py::test_examples_are_chosen_by_concept_style_and_category",
        ),
        (
            "captions_of_the_first_examples",
            "np.linspace(0, len(source) - 1, limit)",
            "np.linspace(0, limit - 1, limit)",
            "tests/data/test_sources.py::test_captions_of_a_large_source_are_of_examples_evenly_spread",
        ),
        (
            "fingerprint_without_texts",
            'if path.suffix in (".json", ".txt", ".md") and',
            'if path.suffix in (".txt", ".md") and',
            "tests/data/test_sources.py::test_a_fingerprint_is_of_names_sizes_and_small_texts",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/shapes.py",
        (
            "above_is_below",
            'return "above" if dy < 0 else "below"',
            'return "below" if dy < 0 else "above"',
            "tests/data/test_shapes.py::test_relations_are_where_the_pixels_are",
        ),
        (
            "second_caption_not_mirrored",
            "{OPPOSITE[where]}",
            "{where}",
            "tests/data/test_shapes.py::test_captions_of_one_and_of_two_forms",
        ),
        (
            "held_out_in_training",
            '== (split == "test")]',
            '== (split != "test")]',
            "tests/data/test_shapes.py::test_held_out_combinations_are_only_in_test",
        ),
        (
            "image_transposed",
            "x = (steps[None, :] - center[0]) / radius\n    y = (steps[:, None] - center[1]) / radius",
            "x = (steps[:, None] - center[0]) / radius\n    y = (steps[None, :] - center[1]) / radius",
            "tests/data/test_shapes.py::test_relations_are_where_the_pixels_are",
        ),
    ),
    *faults_in(
        "unclip_jax/data/builder.py",
        (
            "oldest_version_read",
            "newest = max(versions,",
            "newest = min(versions,",
            "tests/data/test_ingest.py::test_the_newest_version_of_a_prepared_set_is_read",
        ),
        (
            "versions_by_their_letters",
            'key=lambda name: tuple(map(int, name.split(".")))',
            "key=str",
            "tests/data/test_ingest.py::test_the_newest_version_of_a_prepared_set_is_read",
        ),
        (
            "versions_of_any_length",
            '(\\.[0-9]{1,9}){2}"',
            '(\\.[0-9]{1,9})+"',
            "tests/data/test_ingest.py::test_the_newest_version_of_a_prepared_set_is_read",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/prepare.py",
        (
            "concept_is_the_own_name",
            '"concept": drawing.concept,',
            '"concept": drawing.name.label,',
            "tests/data/test_emoji.py::test_genders_share_a_concept_and_a_split",
        ),
        (
            "category_is_the_style",
            '"category": drawing.category,',
            '"category": drawing.style,',
            "tests/data/test_emoji.py::test_captions_tags_and_categories",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/pairs.py",
        (
            "both_things_on_the_left",
            "start = place * (size - side)",
            "start = 0 * (size - side)",
            f"{PAIRS}::test_each_thing_is_drawn_on_its_side",
        ),
        (
            "held_out_under_the_first_name_only",
            "(*captions_lib.kinds().get(label, ()), *short, own)",
            "(own,)",
            f"{PAIRS}::test_the_listed_pairs_are_held_out_under_every_name",
        ),
        (
            "pairs_of_held_out_drawings",
            'splits.get("train", ())',
            "sum(splits.values(), [])",
            f"{PAIRS}::test_pairs_are_made_of_training_drawings_of_one_style",
        ),
        (
            "side_by_the_order_of_the_arguments",
            "sorted((one, other), key=lambda d: d.name.label)",
            "[one, other]",
            f"{PAIRS}::test_which_is_on_the_left_depends_on_the_names_alone",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/emoji.py",
        (
            "splits_of_80_percent",
            "HELD_OUT = 0.08 ",
            "HELD_OUT = 0.8 ",
            "tests/data/test_emoji.py::test_split_shares_and_rules",
        ),
        (
            "codes_without_leading_zeros",
            'f"{int(p, 16):04x}"',
            'f"{int(p, 16):x}"',
            "tests/data/test_emoji.py::test_code_points_have_one_spelling",
        ),
        (
            "darkest_tone_kept",
            '_TONE = re.compile(r"1f3f[b-f]")',
            '_TONE = re.compile(r"1f3f[b-c]")',
            "tests/data/test_emoji.py::test_tone_and_gender_do_not_part_a_concept",
        ),
        (
            "no_style_left_in_train",
            'if held and not last else "train"',
            'if held else "train"',
            "tests/data/test_emoji.py::test_split_shares_and_rules",
        ),
        (
            "shared_drawings_parted",
            "if len({splits[cell] for cell in cells}) > 1",
            "if len({splits[cell] for cell in cells}) > 2",
            "tests/data/test_emoji.py::test_a_drawing_is_in_one_split_only",
        ),
    ),
    *faults_in(
        "unclip_jax/data/config.py",
        (
            "weights_of_the_others_alone",
            "count = 1 + len(self.mix)",
            "count = len(self.mix)",
            "tests/data/test_pipeline.py::test_weights_of_a_mixture_are_one_for_each_set",
        ),
    ),
    *faults_in(
        "unclip_jax/data/pipeline.py",
        (
            "mixed_sets_whole",
            "concepts=cfg.mix_concepts or cfg.concepts",
            "concepts=cfg.concepts",
            "tests/data/test_mixtures.py::test_a_set_is_mixed_with_a_part_of_itself",
        ),
    ),
]
