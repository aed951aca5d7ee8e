"""Reads report.html back: its tags, its text, and its curves in the units of their axes."""

import html.parser
import json

import numpy as np


class Page(html.parser.HTMLParser):
    """A parsed page.

    `values(chart, series)` reads a curve off the chart as a person would, at the labels of the
    axes, whose rounding is all that is lost.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.labels, self._curves = [], "", {}, {}
        self._chart = self._points = self._label = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "svg":
            self._chart = attrs["aria-label"]
        elif tag == "polyline":
            pairs = (pair.split(",") for pair in attrs["points"].split())
            self._points = [(float(x), float(y)) for x, y in pairs]
        self._label = attrs if tag == "text" else None

    def handle_data(self, data):
        self.text += data
        if self._points:
            self._curves[self._chart, data] = self._points
            self._points = None
        elif self._label:
            self.labels.setdefault(self._chart, []).append((self._label, data))
            self._label = None

    def values(self, chart, series="training"):
        labels = [(a, text) for a, text in self.labels[chart] if "text-anchor" in a]
        log = any(text.endswith("(log)") for _, text in labels)
        ticks = [(a, number(text)) for a, text in labels if number(text) is not None]
        across = [(float(a["x"]), n) for a, n in ticks if a["text-anchor"] == "middle"]
        up = [(float(a["y"]) - 4, np.log10(n) if log else n) for a, n in ticks
              if a["text-anchor"] == "end"]  # fmt: skip
        to_x, to_y = (np.polyfit(*zip(*pairs, strict=True), 1) for pairs in (across, up))
        found = [(np.polyval(to_x, x), np.polyval(to_y, y)) for x, y in self._curves[chart, series]]
        return [(x, 10**y if log else y) for x, y in found]


def number(text):
    """The number that a label shows, None if it shows none."""
    factor = {"k": 1e3, "M": 1e6}.get(text[-1:], 1.0)
    try:
        return float(text.rstrip("kM")) * factor
    except ValueError:
        return None


def recorded(path, key):
    """The (step, value) of a key in a file of the record."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], row[key]) for row in rows if key in row]


def assert_plots(page, chart, series, expected):
    """The curve goes through these points, to what the labels' rounding and pixels allow."""
    found, expected = np.array(page.values(chart, series)), np.array(expected)
    assert found.shape == expected.shape
    spread = np.ptp(expected, axis=0) + 1e-9
    np.testing.assert_array_less(np.abs(found - expected).max(axis=0) / spread, 0.02)
