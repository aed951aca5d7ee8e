"""Steps to measure in processes of their own, which need neither jax nor torch."""

import os
import time


def quick(rows):
    """A step of two milliseconds."""

    def run():
        time.sleep(0.002)

    run.facts = {"rows": rows}
    return run


def failing(kind):
    """A side that cannot run."""
    if kind == "package":
        import no_such_package  # noqa: F401
    if kind == "memory":
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 byte")
    return lambda: os._exit(7)
