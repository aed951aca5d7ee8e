"""The list of faults fits the tree: every text stands once in its file, every test is there."""

import ast
import collections
import functools

import pytest

from tests.faults.faults import FAULTS
from tests.faults.run import ROOT, Outcome, Planter, Results, chosen, digest_of, read_args

FOLDERS = "diffusion nn models train sampling data text checkpoint evals core".split()
LEAST, LEAST_IN_A_FOLDER = 90, 6


@functools.cache
def source_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def names_in(path):
    """The dotted names of the functions and classes of a test file."""
    found = set()

    def walk(body, prefix=()):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add("::".join((*prefix, node.name)))
                walk(node.body, (*prefix, node.name))

    walk(ast.parse(source_of(path)).body)
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_one_place_and_its_tests_exist(fault):
    source = source_of(fault.file)
    assert source.count(fault.old) == 1, f"{fault.old!r} in {fault.file}"
    before, after = ast.parse(source), ast.parse(source.replace(fault.old, fault.new))
    assert ast.dump(before) != ast.dump(after)
    assert fault.tests.split()
    for node in fault.tests.split():
        path, _, name = node.partition("::")
        assert (ROOT / path).is_file(), node
        assert not name or name.partition("[")[0] in names_in(path), node


def test_the_list_is_long_spread_and_of_different_names():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= LEAST
    counts = collections.Counter(fault.file.split("/")[1] for fault in FAULTS)
    assert {name: counts[name] for name in FOLDERS if counts[name] < LEAST_IN_A_FOLDER} == {}


def test_a_commit_chooses_its_sample_and_another_commit_another():
    def names(commit, number=10):
        args = read_args(["--sample", str(number), "--commit", commit])
        return [fault.name for fault in chosen(args)]

    assert names("abc") == names("abc") and len(set(names("abc"))) == 10
    assert names("abc") != names("abd")
    assert sorted(names("abc", len(FAULTS))) == sorted(fault.name for fault in FAULTS)


def test_a_result_is_of_its_fault_its_file_and_its_tests():
    same_file = [fault for fault in FAULTS if fault.file == FAULTS[0].file]
    digests = {digest_of(fault, clean=False) for fault in same_file}
    assert len(digests) == len(same_file)
    assert digest_of(FAULTS[0], clean=True) not in digests


@pytest.mark.parametrize(
    ("clean", "faulted", "word"),
    [
        ("passed", "failed", "caught"),
        ("passed", "passed", "NOT CAUGHT"),
        ("passed", "error", "ERROR"),
        ("failed", None, "ERROR"),
    ],
)
def test_a_fault_is_judged_by_a_clean_and_a_faulted_run(tmp_path, clean, faulted, word):
    """The copy is whole again afterwards, and a second run takes what is known."""
    fault, root = FAULTS[0], tmp_path / "copy"
    copy, source = root / fault.file, source_of(fault.file)
    copy.parent.mkdir(parents=True)
    copy.write_text(source)
    seen = []

    class Told(Planter):
        def _run(self, root, tests):
            is_clean = copy.read_text() == source
            seen.append(is_clean)
            return Outcome(clean if is_clean else faulted, "how", 1.0)

    for again in (False, True):
        planter = Told(Results(tmp_path / "results.jsonl", fresh=False), timeout=1)
        assert planter.judge(root, fault)[0] == word
        assert copy.read_text() == source
        retried = [False] if faulted == "error" and again else []
        assert seen == ([True, False] if faulted else [True]) + retried
