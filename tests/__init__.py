"""The tests: a package, so that a `tests` that something installed is not taken for it."""
