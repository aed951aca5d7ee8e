"""Planted faults of tools/turns."""

from tests.faults.catalog import Fault, faults_in

FILES, PLAN = "tests/turns/test_files.py", "tests/turns/test_plan.py"
FAULTS: list[Fault] = [
    *faults_in(
        "tools/turns/plan.py",
        (
            "one_of_the_joined_stages_is_enough",
            'known.issuperset(place.split("+"))',
            'known.intersection(place.split("+"))',
            f"{PLAN}::test_a_place_may_join_stages_that_the_step_needs",
        ),
    ),
    *faults_in(
        "tools/turns/state.py",
        (
            "each_turn_starts_at_the_peak",
            "return rate * (1.0 + math.cos(math.pi * done / wanted)) / 2.0",
            "return rate",
            f"{PLAN}::test_the_learning_rate_goes_on_along_one_cosine",
        ),
        (
            "turns_without_their_overhead",
            "training = turn_seconds - progress.overhead_seconds",
            "training = turn_seconds",
            f"{PLAN}::test_turns_left_are_images_over_images_a_turn",
        ),
    ),
    *faults_in(
        "tools/turns/pieces.py",
        (
            "joined_files_unchecked",
            "if hashlib.sha256(part).hexdigest() != entry.sha256:",
            "if len(part) != entry.bytes:",
            f"{FILES}::test_files_are_cut_and_joined",
        ),
        (
            "parts_over_their_limit",
            "room = limit - len(json.dumps(files)) - 1024",
            "room = limit",
            f"{FILES}::test_parts_are_bounded_and_the_same_again",
        ),
    ),
    *faults_in(
        "tools/turns/data.py",
        (
            "white_stored_with_loss",
            "alpha = np.where(white, 0, 255).astype(np.uint8)",
            "alpha = np.where(white, 255, 255).astype(np.uint8)",
            f"{FILES}::test_images_travel_small_and_white_stays_white",
        ),
    ),
    *faults_in(
        "tools/turns/clock.py",
        (
            "stubborn_process_kept_to_the_deadline",
            "process.wait(max(0.0, clock.until_end() * (1.0 - GRACE)))",
            "process.wait(max(0.0, clock.until_end() + 1.0))",
            f"{FILES}::test_a_process_is_stopped_at_the_reserve_and_killed_before_the_end",
        ),
    ),
]
