"""Planted faults of unclip_jax/data/sets beyond its captions, and of the suite of plain prompts."""

from tests.faults.catalog import Fault, faults_in

COLORS = "tests/data/test_recolor.py"
EMOJI = "tests/data/test_emoji.py"
ICONS = "tests/data/test_iconify.py"
COMBINATIONS = "tests/evals/test_combinations.py"
PROMPTS = "tests/evals/test_prompts.py"

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/data/sets/iconify.py",
        (
            "iconify_corner_swapped",
            "f\"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}\"",
            "f\"{icon.get('top', 0)} {icon.get('left', 0)} {width} {height}\"",
            f"{ICONS}::test_an_icon_is_its_box",
        ),
        (
            "icon_given_twice",
            "key not in found and name not in taken",
            "key not in found",
            f"{ICONS}::test_the_best_name_takes_an_icon",
        ),
        (
            "second_name_first",
            "in sorted(ranks):",
            "in sorted(ranks, reverse=True):",
            f"{ICONS}::test_the_best_name_takes_an_icon",
        ),
        (
            "flipped_alias_read",
            '<= {"parent", "hidden"}:',
            '<= {"parent", "hidden", "hFlip"}:',
            f"{ICONS}::test_an_alias_that_changes_the_icon_is_not_read",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/recolor.py",
        (
            "hue_of_the_first_bin",
            "    peak = _mean_hue(hue[near], weights[near])\n",
            "",
            f"{COLORS}::test_main_colors_have_their_everyday_names",
        ),
        (
            "green_and_blue_swapped",
            "2 + (blue - red) / safe, 4 + (red - green) / safe",
            "4 + (blue - red) / safe, 2 + (red - green) / safe",
            f"{COLORS}::test_main_colors_have_their_everyday_names",
        ),
        (
            "all_hues_recolored",
            "_ramp(_hue_distance(hue, main.hue), _FAR, _NEAR)",
            "_ramp(_hue_distance(hue, main.hue), 400.0, 300.0)",
            f"{COLORS}::test_a_recolored_drawing_has_that_main_color",
        ),
        (
            "white_is_shifted_too",
            "start + (1.0 - start) * part",
            "start + 0.5 * (1.0 - start) * part",
            f"{COLORS}::test_the_blend_of_an_edge_with_the_ground_stays_light",
        ),
        (
            "gray_stays_gray",
            "scaled = target_saturation * _ramp(lightness, 1.0, 0.9)",
            "scaled = saturation * target_saturation",
            f"{COLORS}::test_a_gray_thing_takes_a_color",
        ),
        (
            "any_share_is_the_main_color",
            "_LEAST_SHARE = 0.6",
            "_LEAST_SHARE = 0.1",
            f"{COLORS}::test_no_color_is_main_among_many",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sets/emoji.py",
        (
            "own_color_made_again",
            "colors = [c for c in recolor.COLORS if c != main.name]",
            "colors = list(recolor.COLORS)",
            f"{EMOJI}::test_things_are_there_in_further_colors",
        ),
        (
            "recolored_leaks_into_training",
            "    return original\n",
            '    return "train"\n',
            f"{EMOJI}::test_a_recolored_drawing_is_in_no_easier_split_than_its_original",
        ),
        (
            "everyday_things_held_out_whole",
            "never_whole = pinned | frozenset(everyday)",
            "never_whole = pinned",
            f"{EMOJI}::test_no_everyday_thing_is_held_out_whole",
        ),
        (
            "everyday_things_not_given",
            "splits = assign_splits(cells, pinned, everyday)\n    while",
            "splits = assign_splits(cells, pinned)\n    while",
            f"{EMOJI}::test_no_everyday_thing_is_held_out_whole",
        ),
        (
            "pairs_held_out_by_style",
            'hash_share(f"color:{drawing.concept}") < HELD_OUT',
            'hash_share(f"color:{drawing.concept}{drawing.style}") < HELD_OUT',
            f"{EMOJI}::test_a_recolored_drawing_is_in_no_easier_split_than_its_original",
        ),
    ),
    *faults_in(
        "unclip_jax/data/sources.py",
        (
            "recolored_everyday_things_left_out",
            'concept = concept.partition(" ")[2]',
            'concept = concept.partition(" ")[0]',
            f"{EMOJI}::test_select_by_concept_and_style",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/prompts.py",
        (
            "rank_of_the_next_prompt",
            "np.asarray(own)[:, None] == np.arange(len(text_emb))[None]",
            "np.asarray(own)[:, None] + 1 == np.arange(len(text_emb))[None]",
            f"{PROMPTS}::test_a_rank_counts_the_texts_that_fit_as_well",
        ),
        (
            "hits_below_the_rank_only",
            "ranks[rows] <= k, baseline",
            "ranks[rows] < k, baseline",
            f"{PROMPTS}::test_hits_are_counted_by_group_and_kind",
        ),
    ),
    *faults_in(
        "unclip_jax/evals/combinations.py",
        (
            "samples_against_themselves",
            "for emb in (sampled_emb, nearest_emb)",
            "for emb in (sampled_emb, sampled_emb)",
            f"{COMBINATIONS}::test_samples_are_compared_with_the_nearest_training_images",
        ),
        (
            "gain_over_nearest_reversed",
            "ours.astype(np.float64) - theirs",
            "theirs - ours.astype(np.float64)",
            f"{COMBINATIONS}::test_samples_are_compared_with_the_nearest_training_images",
        ),
    ),
    *faults_in(
        "unclip_jax/train/resolve.py",
        (
            "vocabulary_trained_anew",
            'if settings.init_from and STAGES[settings.stage].kind == "clip":',
            'if settings.init_from and STAGES[settings.stage].kind == "none":',
            "tests/train/test_resolve.py::test_a_clip_that_starts_from_a_bundle_keeps_its_vocabulary",
        ),
    ),
]
