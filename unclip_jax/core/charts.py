"""Line charts and bars as inline SVG, without a plotting library: fast to draw and self-contained.

Lengths are in pixels of the view box; the page scales it. A chart's colors are the page's CSS
variables, so that it follows a dark page. Every text is escaped.
"""

import dataclasses
import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 18, 30, 40  # room around the plotted area
COLORS = 7  # --c0 ... --c6 of the page
MOST_TICKS = 6

Number = int | float
Point = tuple[Number, Number]


@dataclasses.dataclass(frozen=True)
class Line:
    """A series of a chart: its name in the legend, and its points (x, y) in order of x."""

    label: str
    points: Sequence[Point]


@dataclasses.dataclass(frozen=True)
class Axis:
    """Maps values to pixels; on a logarithmic axis all values are positive.

    Attributes:
        start, end: pixels of `low` and `high`.
    """

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool = False

    def __call__(self, value: Number) -> Number:
        """Returns the pixel of a value."""
        low, high, value = (self._scaled(number) for number in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[Number]:
        """Returns round values between `low` and `high`."""
        if not self.log:
            return round_values(self.low, self.high)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [f * 10.0**d for d in decades for f in factors]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= MOST_TICKS:
                return found if len(found) > 1 else round_values(self.low, self.high)
        return found[:: -(-len(found) // MOST_TICKS)]

    def _scaled(self, value: Number) -> Number:
        return math.log10(value) if self.log else value


def round_values(low: Number, high: Number) -> list[Number]:
    """Returns multiples of 1, 2 or 5 times a power of ten between two values, a handful."""
    rough = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def span(values: Sequence[Number], *, log: bool) -> tuple[Number, Number]:
    """Returns the ends of an axis: those of the values and a little more; never of length 0."""
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** 0.05, 1.02)
        return low / factor, high * factor
    extra = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    return low - extra, high + extra


def short(value: Number) -> str:
    """Returns a number in at most five characters or so: 1200000 is 1.2M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:.4g}"


def line_chart(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """Returns a chart as an SVG element; without any point one that says so.

    The vertical axis is logarithmic if all values are positive and differ by more than a factor
    of five.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return _frame(title, [_text(WIDTH / 2, HEIGHT / 2, "nothing recorded yet", "middle")])
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    log = min(ys) > 0 and max(ys) > 5 * min(ys)
    low, high = min(xs), max(xs)
    across = Axis(low, high if high > low else low + 1.0, LEFT, WIDTH - RIGHT)
    up = Axis(*span(ys, log=log), HEIGHT - BOTTOM, TOP, log)
    parts = _grid(across, up)
    for number, line in enumerate(lines):
        color = f"var(--c{number % COLORS})"
        if len(line.points) == 1:
            (x, y) = line.points[0]
            parts.append(f'<circle cx="{across(x):.2f}" cy="{up(y):.2f}" r="3" fill="{color}"/>')
        else:
            shown = " ".join(f"{across(x):.2f},{up(y):.2f}" for x, y in line.points)
            parts.append(
                f'<polyline points="{shown}" fill="none" stroke="{color}" stroke-width="1.4">'
                f"<title>{html.escape(line.label)}</title></polyline>"
            )
    parts += _legend(lines) if len(lines) > 1 else []
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 11 {middle:g})"'
    name = f"{y_label} (log)" if log else y_label
    parts.append(_text(11, middle, name, "middle", turned))
    return _frame(title, parts)


def share_bar(title: str, shares: Sequence[tuple[str, float]]) -> str:
    """Returns a bar that parts of a whole divide, with a legend in percent.

    Args:
        shares: names and amounts, in any unit.
    """
    total = sum(amount for _, amount in shares)
    if total <= 0:
        return _frame(title, [_text(WIDTH / 2, 50, "nothing recorded yet", "middle")], 80)
    parts, left, row, column = [], 10.0, 0, 0
    for number, (name, amount) in enumerate(shares):
        width, color = (WIDTH - 20) * amount / total, f"var(--c{number % COLORS})"
        label = f"{name} {100 * amount / total:.1f}%"
        parts.append(
            f'<rect x="{left:.2f}" y="34" width="{width:.2f}" height="26" fill="{color}">'
            f"<title>{html.escape(label)}</title></rect>"
        )
        left += width
        x, y = 10 + 182 * column, 82 + 18 * row
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{color}"/>')
        parts.append(_text(x + 15, y, label))
        column = (column + 1) % 3
        row += column == 0
    return _frame(title, parts, 92 + 18 * -(-len(shares) // 3))


def _grid(across: Axis, up: Axis) -> list[str]:
    parts, bottom = [], HEIGHT - BOTTOM
    for value in across.ticks():
        x = across(value)
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" class="grid"/>')
        parts.append(_text(x, bottom + 15, short(value), "middle"))
    for value in up.ticks():
        y = up(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" class="grid"/>')
        parts.append(_text(LEFT - 6, y + 4, short(value), "end"))
    return parts


def _legend(lines: Sequence[Line]) -> list[str]:
    parts, right = [], WIDTH - RIGHT
    for number, line in reversed(list(enumerate(lines))):
        parts.append(_text(right, 18, line.label, "end"))
        right -= 6.4 * len(line.label) + 16
        color = f"var(--c{number % COLORS})"
        parts.append(f'<path d="M{right:.1f} 14h10" stroke="{color}" stroke-width="3"/>')
        right -= 12
    return parts


def _text(x: Number, y: Number, text: str, anchor: str = "start", more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}'.rstrip()
    return f"<text {place}>{html.escape(text)}</text>"


def _frame(title: str, parts: Sequence[str], height: int = HEIGHT) -> str:
    name = html.escape(title)
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">'
    return "\n".join([head, f'<text x="10" y="18" class="name">{name}</text>', *parts, "</svg>"])
