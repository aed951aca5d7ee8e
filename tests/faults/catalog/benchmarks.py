"""Planted faults of the benchmarks' arithmetic."""

from tests.faults.catalog import Fault, faults_in

TABLE = "tests/benchmarks/test_gpu.py::test_the_table_says_all"
FIGURES = "tests/benchmarks/test_gpu.py::test_rates_ratios_and_shares"

FAULTS: list[Fault] = [
    *faults_in(
        "benchmarks/gpu_report.py",
        (
            "speed_is_the_peers_over_ours",
            "return rate(sides[best]) / theirs",
            "return theirs / rate(sides[best])",
            FIGURES,
        ),
        (
            "rates_of_calls_in_place_of_rows",
            'side["rows"] / side["wall"]',
            '1.0 / side["wall"]',
            FIGURES,
        ),
        (
            "speed_across_cards",
            'sides[best]["device"] != sides[name]["device"]',
            "best == name",
            FIGURES,
        ),
        (
            "mfu_of_another_networks_flops",
            "for one in (side, *sides.values()) if",
            "for one in sides.values() if",
            FIGURES,
        ),
        (
            "mfu_of_a_whole_batch_a_row",
            'counted[0]["flops"] / counted[0]["rows"] * achieved',
            'counted[0]["flops"] * achieved',
            FIGURES,
        ),
        ("every_goal_is_reached", "if reached >= wanted else", "if wanted >= 0 else", TABLE),
    ),
    *faults_in(
        "benchmarks/gpu.py",
        (
            "a_rerun_measures_all_again",
            'return "failed" in failed and (',
            "return bool(failed) and (",
            "tests/benchmarks/test_gpu.py::test_a_rerun_goes_on_where_the_last_one_ended",
        ),
    ),
]
