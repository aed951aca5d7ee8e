"""Planted faults of unclip_jax/plan: estimate to hlo."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/plan/search_report.py",
        (
            "estimates_written_in_place_of_the_compilers",
            "known = {**dataclasses.asdict(row.estimate), **own}",
            "known = {**own, **dataclasses.asdict(row.estimate)}",
            "tests/plan/test_search.py::test_the_compilers_figures_replace_the_estimates",
        ),
    ),
    *faults_in(
        "unclip_jax/plan/search.py",
        (
            "what_may_not_fit_is_compiled_first",
            "key=lambda row: row.memory_bytes > safe)",
            "key=lambda row: 0)",
            "tests/plan/test_search.py::test_what_is_sure_to_fit_is_compiled_first",
        ),
    ),
    *faults_in(
        "unclip_jax/cli/plan.py",
        (
            "search_looks_for_no_compiler",
            "        elif compiles:\n            require_compiler(chips)\n",
            "",
            "tests/cli/test_plan.py::test_refusals",
        ),
    ),
    *faults_in(
        "unclip_jax/core/chips.py",
        (
            "digits_of_any_script",
            "text.strip().lower(), re.ASCII)",
            "text.strip().lower())",
            "tests/cli/test_plan.py::test_refusals",
        ),
    ),
    *faults_in(
        "unclip_jax/plan/estimate.py",
        (
            "smaller_bound_taken",
            "bound = max(compute, memory)",
            "bound = min(compute, memory)",
            "tests/plan/test_estimate.py::test_the_larger_bound_is_the_steps_time",
        ),
        (
            "planned_mfu_with_recomputation",
            "mfu_bound=plan.flops_per_step /",
            "mfu_bound=plan.hardware_flops_per_step /",
            "tests/plan/test_estimate.py::test_the_larger_bound_is_the_steps_time",
        ),
        (
            "state_read_but_not_written",
            "2 * share + 2 * plan.params * 4",
            "share + plan.params * 4",
            "tests/plan/test_estimate.py::test_the_larger_bound_is_the_steps_time",
        ),
    ),
    *faults_in(
        "unclip_jax/plan/compile.py",
        (
            "donated_memory_counted_twice",
            'peak += measured["output_bytes"] - measured["aliased_bytes"]',
            'peak += measured["output_bytes"]',
            "tests/plan/test_compile.py",
        ),
        (
            "reductions_sent_once",
            'WIRE = {"all-reduce": 2.0}',
            'WIRE = {"all-reduce": 1.0}',
            "tests/plan/test_compile.py",
        ),
        (
            "loops_run_once",
            'seconds = reported * measured["loop_factor"]',
            "seconds = reported",
            "tests/plan/test_compile.py",
        ),
    ),
    *faults_in(
        "unclip_jax/plan/footprint.py",
        (
            "loops_move_once",
            '        self._times *= eqn.params["length"]\n',
            "",
            "tests/plan/test_footprint.py::test_a_loop_moves_as_often_as_it_runs",
        ),
        (
            "arrays_are_never_freed",
            "self.last |= dict.fromkeys(found, len(self.steps))",
            "self.last |= dict.fromkeys(self.last, len(self.steps))",
            "tests/plan/test_footprint.py",
        ),
        (
            "what_is_kept_is_copied",
            " and name != ROUNDING",
            "",
            "tests/plan/test_footprint.py::test_what_a_policy_keeps_is_rounded_within_a_loop",
        ),
        (
            "contracted_sizes_not_filled_up",
            "2.0 * batch * fill(inner) * streamed",
            "2.0 * batch * inner * streamed",
            "tests/plan/test_footprint.py::test_sizes_are_filled_up_to_the_matrix_unit",
        ),
    ),
    *faults_in(
        "unclip_jax/plan/candidates.py",
        (
            "offloaded_products_never_return",
            "return 2 * max(0.0, dots - block)",
            "return max(0.0, dots - block)",
            "tests/plan/test_search.py::test_estimates_are_ordered_as_the_policies_are",
        ),
    ),
    *faults_in(
        "unclip_jax/plan/search.py",
        (
            "front_of_the_fastest_alone",
            "row.memory_bytes < front[-1].memory_bytes",
            "row.step_seconds < front[-1].step_seconds",
            "tests/plan/test_search.py::test_the_front_and_the_choice",
        ),
        (
            "estimates_compete_with_the_compiler",
            '[row for row in rows if row.source == "compiled"]',
            "[]",
            "tests/plan/test_search.py::test_the_front_and_the_choice",
        ),
    ),
    *faults_in(
        "unclip_jax/plan/hlo.py",
        (
            "started_gather_counts_its_operands",
            "result -= operands ",
            "result -= 0 ",
            "tests/plan/test_hlo.py::test_each_kind_is_counted_as_often_as_it_runs",
        ),
        (
            "loop_of_one_collective",
            "kind: Collective(one.count * trips, one.bytes * trips)",
            "kind: Collective(one.count * trips, one.bytes)",
            "tests/plan/test_hlo.py::test_each_kind_is_counted_as_often_as_it_runs",
        ),
        (
            "padding_counted",
            "hits += place % dilate == 0 and 0 <= place // dilate < size",
            "hits += place % dilate == 0",
            "tests/plan/test_hlo.py::test_arithmetic_of_products_and_convolutions",
        ),
    ),
]
