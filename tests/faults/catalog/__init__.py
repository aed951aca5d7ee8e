"""Faults that the tests must catch, a module per package folder (or part of one)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        file: the source file, from the root of the tree.
        old: a text that occurs in it once.
        tests: node ids or files of the tests meant for it, separated by spaces.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


def faults_in(file: str, *rows: tuple[str, str, str, str]) -> list[Fault]:
    """Returns the faults of one file; a row is (name, old, new, tests)."""
    return [Fault(name, file, *rest) for name, *rest in rows]
