import io

import numpy as np
import pytest
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.data import images


def encoded(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def test_transparency_is_laid_on_white():
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    picture.putpixel((1, 0), (0, 0, 0, 128))
    image = images.decode(encoded(picture))
    # 128/255 black over white leaves 255 - 128 = 127.
    assert image.tolist() == [[[255, 255, 255], [127, 127, 127]]]


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_other_modes_become_rgb(mode):
    picture = Image.new(mode, (3, 2))
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert images.decode(encoded(picture, form)).shape == (2, 3, 3)


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_broken_bytes_are_one_line(cut):
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="picture"):
        images.decode(images.encode_png(noise)[:cut])


def test_png_keeps_every_pixel():
    noise = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(images.decode(images.encode_png(noise)), noise)


def test_area_is_the_block_mean():
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    means = noise.reshape(8, 4, 8, 4, 3).mean((1, 3))
    shrunk = images.to_square(noise, 8, resize="area")
    assert np.abs(shrunk - means).max() <= 1.0  # rounded once along each axis


@pytest.mark.parametrize("resize", ["area", "lanczos", "bicubic"])
def test_shrinking_does_not_alias(resize):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = images.to_square(stripes, 16, resize=resize)[:, 2:-2].astype(float)
    assert np.abs(inner - 127.5).max() < 8  # the stripes are above the new Nyquist limit


def test_crops():
    image = np.zeros((2, 6, 3), np.uint8)
    image[:, :, 0] = np.arange(6) * 10
    assert images.to_square(image, 2, crop="center")[0, :, 0].tolist() == [20, 30]
    assert images.to_square(image, 2, crop="random", offset=0.0)[0, :, 0].tolist() == [0, 10]
    assert images.to_square(image, 2, crop="random", offset=1.0)[0, :, 0].tolist() == [40, 50]
    padded = images.to_square(image, 6, crop="pad")
    assert padded[2:4].tolist() == image.tolist()
    assert (padded[:2] == 255).all()
    assert (padded[4:] == 255).all()
    assert images.to_square(image, 4, crop="squash").shape == (4, 4, 3)


def test_the_two_pixel_scales_are_inverse():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = images.to_float(every)
    assert float(floats.min()) == -1.0
    assert float(floats.max()) == 1.0
    np.testing.assert_array_equal(images.to_uint8(floats), every)


def test_to_uint8_clips():
    values = np.asarray([-9.0, -1.0, 0.0, 1.0, 9.0], np.float32).reshape(1, 1, 5, 1)
    assert images.to_uint8(images.jnp.asarray(values)).ravel().tolist() == [0, 0, 128, 255, 255]


def test_sixteen_bits_are_scaled_not_cut():
    deep = np.asarray([[0, 257, 65535, 32896]], np.uint16)
    found = images.decode(encoded(Image.fromarray(deep)))
    assert found[0, :, 0].tolist() == [0, 1, 255, 128]


def test_pictures_are_turned_upright():
    picture = Image.new("RGB", (4, 2))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise: the left upper corner goes to the right
    found = images.decode(encoded(picture, exif=exif))
    assert found.shape == (4, 2, 3)
    assert found[0, 1].tolist() == [255, 0, 0]


def test_masks_fill_what_is_white_or_transparent():
    grey = Image.fromarray(np.asarray([[0, 127, 128, 255]], np.uint8))
    assert images.decode_mask(encoded(grey)).tolist() == [[False, False, True, True]]
    clear = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    clear.putpixel((0, 0), (0, 0, 0, 0))
    assert images.decode_mask(encoded(clear)).tolist() == [[True, False]]


def test_too_many_pixels_are_one_line(monkeypatch):
    monkeypatch.setattr(images, "PIXEL_LIMIT", 5)
    with pytest.raises(UserError, match="3 x 2"):
        images.decode(encoded(Image.new("RGB", (3, 2))))
