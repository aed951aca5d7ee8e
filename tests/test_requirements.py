"""Requirements are bounded above, the pins lie inside, and `make audit` says what it found."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.matrix import run as matrix

ROOT = Path(__file__).parent.parent


def declared():
    """(group, requirement) of setup.py; "" is the base."""
    call = next(
        n
        for n in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "setup"
    )
    fields = {k.arg: k.value for k in call.keywords}
    groups = {"": ast.literal_eval(fields["install_requires"])}
    groups |= ast.literal_eval(fields["extras_require"])
    return [(group, Requirement(line)) for group, lines in groups.items() for line in lines]


PINS = {
    "requirements.txt": "0.10",
    "requirements-py312.txt": "0.11",
    "requirements-py313.txt": "0.12",
}


def pins(file):
    lines = (ROOT / file).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(r.name): next(iter(r.specifier)).version for r in found}


def canonical(name):
    return name.lower().replace("_", "-")


def test_every_requirement_is_bounded_on_both_sides():
    open_ended = [
        f"{group}: {r}"
        for group, r in declared()
        if {s.operator for s in r.specifier} != {">=", "<"}
    ]
    assert not open_ended


@pytest.mark.parametrize("file", PINS)
def test_every_pin_lies_within_its_bounds(file):
    """And every base requirement has one, the same ones on every Python."""
    pinned = pins(file)
    outside = [
        str(r)
        for _, r in declared()
        if canonical(r.name) in pinned and Version(pinned[canonical(r.name)]) not in r.specifier
    ]
    assert not outside
    assert not [str(r) for group, r in declared() if not group and canonical(r.name) not in pinned]
    assert set(pinned) == set(pins("requirements.txt"))
    assert pinned["jax"].startswith(f"{PINS[file]}.") and pinned["jax"] == pinned["jaxlib"]


def test_every_pin_file_is_used():
    files = {path.name for path in ROOT.glob("requirements*.txt")}
    assert files == set(PINS) == set(matrix.PINS.values())


ANSWERS = {
    "clean": ([{"name": "a", "version": "1", "vulns": []}], 0, "0 known vulnerabilities in 1 of 1"),
    "vulnerable": (
        [
            {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]},
            {"name": "b", "skip_reason": "not found"},
        ],
        1,
        "a 1: CVE-1, fixed in 2\naudit: 1 known vulnerabilities in 1 of 2",
    ),
    "unknown": ([{"name": "b", "skip_reason": "not found"}], 0, "no answer"),
    "unreachable": (None, 0, "no answer from the advisory service; nothing was checked"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_audit_tells_vulnerabilities_from_silence(case, tmp_path):
    """With stand-ins for both tools; the SBOM is written in every case."""
    answer, status, line = ANSWERS[case]
    tool(tmp_path / "cyclonedx-py", "open(sys.argv[-2], 'w').write('{}')")
    written = json.dumps({"dependencies": answer})
    wrote = f"open(sys.argv[-1], 'w').write({written!r})" if answer is not None else "pass"
    tool(tmp_path / "pip-audit", f"{wrote}; sys.exit({status if answer is not None else 1})")
    command = [
        sys.executable,
        ROOT / ".ci" / "audit.py",
        tmp_path,
        sys.executable,
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status and line in done.stdout and not done.stderr
    assert (tmp_path / "out" / "sbom.cdx.json").read_text() == "{}"


def tool(path, body):
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
