"""The tests; a package by its own right, so that a `tests` of an installed one is not taken for it."""
