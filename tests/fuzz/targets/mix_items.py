"""Items of `unclip mix`, up to the mixture and the names of the files made of them."""

from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.framework import Target


def items() -> st.SearchStrategy[list[str]]:
    """Captions and names of files with something after a colon that may be a weight."""
    heads = st.text(max_size=40) | st.sampled_from(
        ["a red heart", "cat.png", "/no/such.JPG", "10:30", "", " ", "a\x00b", "x" * 5000, "\udcff"]
    )
    numbers = st.floats().map(repr) | st.integers(-3, 10**400).map(str)
    numbers |= st.sampled_from(["1e999", "-0", "0x1", "1_0", "٣", " 1", "nan", "-Infinity", "."])
    tails = numbers.map(":{}".format) | st.text(max_size=5) | st.just("")
    return st.lists(st.tuples(heads, tails).map("".join), max_size=5)


def read(case: list[str], folder: Path) -> None:
    from unclip_jax.core.rendering import slug
    from unclip_jax.workflows.mix import Mix, parse_item

    parsed = [parse_item(text) for text in case]
    assert all(len(slug(item.name)) <= 40 for item in parsed)
    grid = len(case) if len(case) in (2, 3) and all(i.weight is None for i in parsed) else None
    mix = Mix(parsed, parsed[:1], {}, grid=grid, num=2, linear=False)
    assert len(mix.files) >= 2


TARGETS = [Target("unclip mix ITEM", st.deferred(items), read, ms=0.3)]
