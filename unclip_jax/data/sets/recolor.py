"""Recoloring: the same drawing with another main color, for captions such as "a blue car".

The main color is the hue of most of the colored area, or gray where little is colored. Pixels near
it take the new hue, saturation and lightness, and keep their shading; outlines, windows and other
parts of another hue stay as drawn.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

COLORS = {
    # Hue in degrees, saturation and lightness as in HLS.
    "red": (0.0, 0.80, 0.48),
    "orange": (27.0, 0.95, 0.54),
    "yellow": (49.0, 0.98, 0.58),
    "green": (125.0, 0.55, 0.42),
    "blue": (214.0, 0.80, 0.52),
    "purple": (274.0, 0.60, 0.50),
    "pink": (335.0, 0.85, 0.74),
    "brown": (24.0, 0.45, 0.33),
    "black": (0.0, 0.0, 0.16),
    "gray": (0.0, 0.0, 0.58),
}
"""The colors that a drawing may take."""

_NEAR, _FAR = 35.0, 60.0  # degrees from the main hue: wholly recolored, not at all
_LEAST_COLORED = 0.3  # of the drawing's pixels, for a hue to be its main color
_LEAST_SHARE = 0.6  # of the colored ones, near the main hue


@dataclasses.dataclass(frozen=True)
class MainColor:
    """The main color of a drawing.

    Attributes:
        name: a key of COLORS, or "" for a shade between two of them.
        hue: degrees; nan for gray.
        saturation: median of the pixels of this color, HLS.
        lightness: likewise.
    """

    name: str
    hue: float
    saturation: float
    lightness: float


def main_color(image: UInt8[np.ndarray, "h w 3"]) -> MainColor | None:
    """Returns the main color of a drawing on white, or None if no color is most of it."""
    hue, lightness, saturation = _hls(image)
    drawn = image.min(-1) < 245
    if drawn.sum() < 0.02 * drawn.size:
        return None
    colored = drawn & (saturation > 0.2) & (lightness > 0.12) & (lightness < 0.95)
    if colored.sum() < _LEAST_COLORED * drawn.sum():
        gray = drawn & (saturation <= 0.2) & (lightness > 0.25)
        if gray.sum() < 0.5 * drawn.sum():
            return None
        return MainColor("gray", float("nan"), 0.0, float(np.median(lightness[gray])))
    weights = saturation * np.sqrt(np.clip(lightness, 0.0, 1.0)) * colored
    counts = np.histogram(hue[colored], 72, (0.0, 360.0), weights=weights[colored])[0]
    window = np.add.reduce([np.roll(counts, k) for k in range(-3, 4)])
    peak = float(np.argmax(window) * 5 + 2.5)
    near = colored & (_hue_distance(hue, peak) < _NEAR)
    peak = _mean_hue(hue[near], weights[near])
    near = colored & (_hue_distance(hue, peak) < _NEAR)
    if weights[near].sum() < _LEAST_SHARE * weights.sum() or near.sum() < 0.25 * drawn.sum():
        return None
    shown = float(np.median(saturation[near])), float(np.median(lightness[near]))
    return MainColor(_name(peak, *shown), peak, *shown)


def recolor(
    image: UInt8[np.ndarray, "h w 3"], main: MainColor, color: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a drawing with its main color replaced by `color`, a key of COLORS."""
    hue, lightness, saturation = _hls(image)
    target_hue, target_saturation, target_lightness = COLORS[color]
    if np.isnan(main.hue):
        share = _ramp(saturation, 0.45, 0.25) * _ramp(lightness, 0.12, 0.3)
        scaled = target_saturation * _ramp(lightness, 1.0, 0.9)
    else:
        share = _ramp(_hue_distance(hue, main.hue), _FAR, _NEAR) * _ramp(saturation, 0.06, 0.2)
        scaled = saturation * target_saturation / max(main.saturation, 0.05)
    start = main.lightness + 0.85 * (target_lightness - main.lightness)
    # White stays white: the ground, its blend with the edge, highlights.
    part = (lightness - main.lightness) / max(1.0 - main.lightness, 1e-3)
    darker = lightness - main.lightness + start
    shifted = np.where(part > 0.0, start + (1.0 - start) * part, darker)
    new = _rgb(
        np.full_like(hue, target_hue), np.clip(shifted, 0.03, 1.0), np.clip(scaled, 0.0, 1.0)
    )
    blended = share[..., None] * new + (1.0 - share[..., None]) * (image / 255.0)
    return np.round(np.clip(blended, 0.0, 1.0) * 255.0).astype(np.uint8)


def _name(hue: float, saturation: float, lightness: float) -> str:
    """Names a color; "" between two names."""
    if hue < 46 and lightness < 0.42 and (saturation < 0.75 or 12 < hue):
        return "brown" if hue > 10 else "red"
    if lightness > 0.68 and (hue > 300 or hue < 12):
        return "pink"
    bounds = ((12, "red"), (18, ""), (40, "orange"), (44, ""), (62, "yellow"), (75, ""))
    bounds += ((165, "green"), (190, ""), (245, "blue"), (258, ""), (300, "purple"), (315, ""))
    bounds += ((343, "pink"), (361, "red"))
    return next(name for end, name in bounds if hue < end)


def _mean_hue(hue: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    """Returns the weighted mean of angles in degrees, on the circle."""
    mean = np.sum(weights * np.exp(1j * np.deg2rad(hue)))
    return float(np.rad2deg(np.angle(mean)) % 360.0)


def _ramp(x: Float[np.ndarray, "*s"], zero: float, one: float) -> Float[np.ndarray, "*s"]:
    """Rises linearly from 0 at `zero` to 1 at `one`."""
    return np.clip((x - zero) / (one - zero), 0.0, 1.0)


def _hue_distance(hue: Float[np.ndarray, "*s"], other: float) -> Float[np.ndarray, "*s"]:
    return np.abs((hue - other + 180.0) % 360.0 - 180.0)


def _hls(
    image: UInt8[np.ndarray, "h w 3"],
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Converts to hue in degrees, lightness and saturation; `colorsys` for arrays."""
    red, green, blue = (image[..., i] / 255.0 for i in range(3))
    low = np.minimum(np.minimum(red, green), blue)
    high = np.maximum(np.maximum(red, green), blue)
    spread = high - low
    lightness = (low + high) / 2
    safe = np.where(spread == 0, 1.0, spread)
    saturation = np.where(spread == 0, 0.0, spread / np.maximum(1 - np.abs(high + low - 1), 1e-9))
    hue = np.where(
        high == red,
        (green - blue) / safe,
        np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    return np.where(spread == 0, 0.0, hue * 60.0 % 360.0), lightness, saturation


def _rgb(
    hue: Float[np.ndarray, "h w"],
    lightness: Float[np.ndarray, "h w"],
    saturation: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 3"]:
    """Converts hue in degrees, lightness and saturation to RGB in [0, 1]."""
    chroma = (1 - np.abs(2 * lightness - 1)) * saturation
    steps = [(hue / 30.0 + offset) % 12.0 for offset in (0.0, 8.0, 4.0)]
    parts = [
        lightness - chroma / 2 * np.maximum(-1.0, np.minimum(np.minimum(k - 3, 9 - k), 1.0))
        for k in steps
    ]
    return np.stack(parts, -1)
