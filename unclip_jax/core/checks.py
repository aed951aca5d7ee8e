"""Range checks of config values; messages name the field, its value and the allowed range."""

import math
from typing import Any

ANY = (-math.inf, math.inf)
COUNT = (1, 2**31 - 1)
COUNT_OR_NONE = (0, 2**31 - 1)
POSITIVE = (5e-324, math.inf)
NOT_NEGATIVE = (0.0, math.inf)
SHARE = (0.0, 1.0)
BELOW_ONE = (0.0, 1.0 - 1e-9)
MLP_RATIO = (2.0**-10, 2.0**10)


def check_ranges(cfg: Any, **ranges: tuple[int | float, int | float]) -> None:
    """Checks that fields of `cfg` are finite and in [low, high].

    Checks every entry of a tuple; None is in every range.

    Raises:
        ValueError: names the field and its value.
    """
    for name, (low, high) in ranges.items():
        value = getattr(cfg, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is None or (low <= number <= high and abs(number) != math.inf):
                continue
            raise ValueError(f"{name}={value} must {_words(low, high)}")


def _words(low: int | float, high: int | float) -> str:
    if (low, high) == ANY:
        return "be finite"
    if (low, high) == POSITIVE:
        return "be positive and finite"
    if high in (math.inf, COUNT[1]):
        return f"be at least {low:g}"
    left = "(0" if low == POSITIVE[0] else f"[{low:g}"
    right = "1)" if high == BELOW_ONE[1] else f"{high:g}]"
    return f"lie in {left}, {right}"
