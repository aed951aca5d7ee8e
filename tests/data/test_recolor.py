"""Recoloring, against the standard library's color conversions."""

import colorsys

import numpy as np
import pytest

from unclip_jax.data.sets import recolor


def drawing(*colors, side=16):
    """Stripes of RGB colors in the middle of a white square."""
    image = np.full((side, side, 3), 255, np.uint8)
    for i, color in enumerate(colors):
        image[4:12, 4 + i * 2 : 6 + i * 2] = color
    return image


def hls(pixel):
    hue, lightness, saturation = colorsys.rgb_to_hls(*(pixel / 255.0))
    return hue * 360, lightness, saturation


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((220, 30, 30), "red"),
        ((250, 140, 20), "orange"),
        ((250, 220, 40), "yellow"),
        ((30, 160, 60), "green"),
        ((30, 110, 230), "blue"),
        ((130, 60, 190), "purple"),
        ((250, 130, 180), "pink"),
        ((120, 75, 45), "brown"),
        ((140, 140, 140), "gray"),
        ((120, 200, 30), "green"),
        ((40, 200, 200), ""),
    ],
)
def test_main_colors_have_their_everyday_names(rgb, name):
    main = recolor.main_color(drawing(rgb, rgb, rgb, (40, 40, 40)))
    assert main.name == name
    if name != "gray":
        hue, lightness, saturation = hls(np.array(rgb))
        assert abs((main.hue - hue + 180) % 360 - 180) < 0.01
        assert (main.saturation, main.lightness) == pytest.approx((saturation, lightness))


def test_no_color_is_main_among_many():
    colors = ((220, 30, 30), (30, 160, 60), (30, 110, 230), (250, 220, 40))
    assert recolor.main_color(drawing(*colors)) is None
    assert recolor.main_color(drawing()) is None
    assert recolor.main_color(drawing((0, 0, 0), (5, 5, 5), (2, 2, 2))) is None


@pytest.mark.parametrize("color", sorted(recolor.COLORS))
def test_a_recolored_drawing_has_that_main_color(color):
    source = "blue" if color != "blue" else "red"
    hue, saturation, lightness = recolor.COLORS[source]
    rgb = np.round(255 * np.array(colorsys.hls_to_rgb(hue / 360, lightness, saturation)))
    image = drawing(rgb, rgb, rgb, (30, 160, 60))
    main = recolor.main_color(image)
    again = recolor.recolor(image, main, color)
    np.testing.assert_array_equal(again[0, 0], 255)  # the ground
    np.testing.assert_array_equal(again[5, 10], (30, 160, 60))  # another hue
    got, want = hls(again[5, 5].astype(float)), recolor.COLORS[color]
    assert got[1] == pytest.approx(main.lightness + 0.85 * (want[2] - main.lightness), abs=0.01)
    if want[1] > 0:
        assert abs((got[0] - want[0] + 180) % 360 - 180) < 3
    else:
        assert got[2] < 0.02


def test_shading_is_kept():
    """Darker and lighter pixels of the main color keep their order, and white stays white."""
    shades = [(20, 60, 130), (30, 90, 200), (60, 130, 240), (150, 190, 250)]
    image = drawing(*shades)
    red = recolor.recolor(image, recolor.main_color(image), "red")
    light = [hls(red[5, 4 + 2 * i].astype(float))[1] for i in range(4)]
    assert light == sorted(light) and light[0] < light[-1]
    np.testing.assert_array_equal(red[0], 255)


def test_the_blend_of_an_edge_with_the_ground_stays_light():
    image = drawing((30, 90, 200), (30, 90, 200), (30, 90, 200), (240, 246, 255))
    black = recolor.recolor(image, recolor.main_color(image), "black")
    assert black[5, 5].max() < 60
    assert black[5, 10].min() > 220


def test_a_gray_thing_takes_a_color():
    image = drawing((150, 150, 150), (160, 160, 160), (140, 140, 140))
    pink = recolor.recolor(image, recolor.main_color(image), "pink")
    hue, _, saturation = hls(pink[5, 5].astype(float))
    assert abs(hue - 335) < 3 and saturation > 0.7
    np.testing.assert_array_equal(pink[0, 0], 255)
