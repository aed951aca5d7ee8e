import io
import struct
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.data.memory import peak_mib
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


def test_transparency_of_every_mode_is_laid_on_white():
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        found = images.decode(encoded(palette, form, transparency=0))
        assert found.tolist() == [[[255, 255, 255], [255, 0, 0]]]
    gray = Image.new("LA", (2, 1), (9, 0))
    gray.putpixel((1, 0), (9, 255))
    assert images.decode(encoded(gray)).tolist() == [[[255] * 3, [9] * 3]]
    red = Image.new("RGB", (2, 1), (255, 0, 0))
    red.putpixel((1, 0), (0, 0, 9))
    found = images.decode(encoded(red, transparency=(255, 0, 0)))  # one color is the clear one
    assert found.tolist() == [[[255, 255, 255], [0, 0, 9]]]


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_other_modes_become_rgb(mode):
    picture = Image.new(mode, (3, 2))
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert images.decode(encoded(picture, form)).shape == (2, 3, 3)


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_broken_bytes_are_one_line(cut):
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="not a readable"):
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


@pytest.mark.parametrize("resize", ["area", "lanczos", "bicubic"])
def test_filters_are_pils_of_their_names(resize):
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    names = {"area": "BOX", "lanczos": "LANCZOS", "bicubic": "BICUBIC"}
    method = Image.Resampling[names[resize]]
    expected = np.asarray(Image.fromarray(noise).resize((7, 7), method))
    for crop in ("pad", "center", "squash"):
        found = images.to_square(noise, 7, crop=crop, resize=resize)
        np.testing.assert_array_equal(found, expected)


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


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_pixels_come_to_minus_one_to_one(kind):
    pixels = kind(np.asarray([0, 51, 255], np.uint8))[None, None, :, None]
    np.testing.assert_allclose(images.to_float(pixels)[0, 0, :, 0], [-1.0, -0.6, 1.0], atol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_eight_bits(kind):
    x = np.array([-9.0, -2.0, -1.0, -0.999, 0.0, 0.5, 1.0, 3.0], np.float32)
    levels = [0, 0, 0, 0, 128, 191, 255, 255]  # round((x + 1) 127.5), halves to even
    pixels = images.to_uint8(kind(np.broadcast_to(x[None, :, None, None], (1, 8, 1, 3))))
    assert type(pixels) is type(kind(x)) and pixels.dtype == np.uint8
    assert pixels[0, :, 0, 0].tolist() == levels
    back = np.asarray(images.to_float(pixels))[0, :, 0, 0]
    np.testing.assert_allclose(back, np.array(levels) / 127.5 - 1, atol=1e-6)
    rounded = images.round_to_8_bits(kind(x)[None, None, :, None])
    np.testing.assert_array_equal(np.asarray(rounded)[0, 0, :, 0], back)


def test_sixteen_bits_are_scaled_not_cut():
    deep = np.asarray([[0, 257, 65535, 32896]], np.uint16)
    found = images.decode(encoded(Image.fromarray(deep)))
    assert found[0, :, 0].tolist() == [0, 1, 255, 128]


def area_weights(length, side, size):
    """float64 [size, length]: each pixel's share in the mean that each pixel of the square is."""
    edges = np.arange(size + 1) * side / size
    first = (side - length) // 2 + np.arange(length)
    low = np.maximum(edges[:-1, None], first[None])
    return np.maximum(np.minimum(edges[1:, None], first[None] + 1) - low, 0) * size / side


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (7, 64), (64, 7)])
def test_a_padded_image_is_the_area_mean_of_its_square(shape):
    image = np.random.default_rng(1).integers(0, 255, (*shape, 3), np.uint8)
    side, size = max(shape), 16
    rows, columns = (area_weights(n, side, size) for n in shape)
    ink = np.einsum("ih,jw,hwc->ijc", rows, columns, image - 255.0)  # white adds nothing to it
    # PIL rounds once along each axis.
    assert np.abs(images.to_square(image, size) - (255.0 + ink)).max() <= 1.0


@pytest.mark.parametrize("resize", ["area", "lanczos", "bicubic"])
@pytest.mark.parametrize("shape", [(9, 31), (31, 9), (200, 40)])
@pytest.mark.parametrize("size", [16, 64])
def test_padding_while_resizing_is_padding_before(shape, size, resize):
    image = np.random.default_rng(2).integers(0, 255, (*shape, 3), np.uint8)
    side = max(shape)
    ground = Image.new("RGB", (side, side), "white")
    place = ((side - shape[1]) // 2, (side - shape[0]) // 2)
    ground.paste(Image.fromarray(image), place)
    kind = "bicubic" if resize == "area" and side < size else resize
    expected = np.asarray(ground.resize((size, size), images.FILTERS[kind]), int)
    found = images.to_square(image, size, crop="pad", resize=resize)
    np.testing.assert_array_equal(found, expected)


def test_long_and_large_images_take_little_memory():
    code = """
import io
from PIL import Image
from unclip_jax.data import images
for shape in ((30_000, 8), (8, 60_000), (5000, 5000)):
    buffer = io.BytesIO()
    Image.new("RGBA", shape, (1, 2, 3, 4)).save(buffer, "PNG", compress_level=1)
    made = images.decode(buffer.getvalue())
    assert made.shape == (*shape[::-1], 3) and (made[::99, ::99] == made[0, 0]).all()
    images.to_square(made, 64, crop="pad")
"""
    assert peak_mib(code) < 450  # 100 MB as read, 75 MB as made, and what Python and JAX take


def test_crops_of_tall_images_move_down():
    image = np.zeros((6, 2, 3), np.uint8)
    image[:, :, 0] = np.arange(6)[:, None] * 10
    for crop, offset, first in (("center", 0.9, 20), ("random", 0.0, 0), ("random", 1.0, 40)):
        cut = images.to_square(image, 2, crop=crop, offset=offset)
        assert cut[:, 0, 0].tolist() == [first, first + 10]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pil_turns_it(orientation):
    pixels = np.random.default_rng(3).integers(0, 255, (3, 5, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(images.decode(data), expected)


def test_unreadable_exif_data_does_not_cost_the_image():
    pixels = np.random.default_rng(3).integers(0, 255, (3, 5, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), exif=b"Exif\0\0no such thing")
    np.testing.assert_array_equal(images.decode(data), pixels)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
def test_formats_that_are_read(form):
    found = images.decode(encoded(Image.new("RGB", (16, 12), (200, 30, 60)), form))
    assert found.shape == (12, 16, 3)
    assert np.abs(found[6, 8].astype(int) - (200, 30, 60)).max() < 12  # lossy ones too


@pytest.mark.parametrize("form", ["EPS", "TIFF", "DDS", "PPM", "TGA", "ICNS", "PCX", "JPEG2000"])
def test_other_formats_are_refused(form):
    with pytest.raises(UserError, match="PNG, JPEG, WEBP, GIF, BMP"):
        images.decode(encoded(Image.new("RGB", (16, 16)), form))


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    for form in ("GIF", "WEBP"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
        found = images.decode(data)
        assert np.abs(found.astype(int) - (255, 0, 0)).max() < 3


def png_of(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_size_that_is_claimed_is_refused_in_one_line(size):
    with pytest.raises(UserError, match="50,000,000"):
        images.decode(png_of(*size))


def test_faults_of_every_kind_are_one_line():
    rng = np.random.default_rng(4)
    noise = Image.fromarray(rng.integers(0, 255, (24, 20, 3), np.uint8))
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"):
        whole = np.frombuffer(encoded(noise, form), np.uint8)
        for _ in range(60):
            broken = whole.copy()
            places = rng.integers(0, min(len(broken), 120), 3)
            broken[places] = rng.integers(0, 256, 3)
            try:
                images.decode(broken[: rng.integers(1, len(broken) + 1)].tobytes())
            except UserError as error:
                assert "not a readable" in str(error) or "pixels" in str(error)


def test_images_are_turned_upright():
    picture = Image.new("RGB", (4, 2))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise: the left upper corner goes to the right
    found = images.decode(encoded(picture, exif=exif))
    assert found.shape == (4, 2, 3)
    assert found[0, 1].tolist() == [255, 0, 0]


def test_masks_fill_what_is_white_or_transparent():
    gray = Image.fromarray(np.asarray([[0, 127, 128, 255]], np.uint8))
    assert images.decode_mask(encoded(gray)).tolist() == [[False, False, True, True]]
    clear = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    clear.putpixel((0, 0), (0, 0, 0, 0))
    assert images.decode_mask(encoded(clear)).tolist() == [[True, False]]


def test_a_painted_layer_is_where_it_is_not_transparent():
    layer = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    layer.putpixel((0, 0), (255, 255, 255, 255))
    layer.putpixel((1, 0), (0, 0, 0, 200))
    assert images.decode_opaque(encoded(layer)).tolist() == [[True, True, False]]
    assert images.decode_opaque(encoded(Image.new("RGB", (2, 1)))).tolist() == [[True, True]]


def test_too_many_pixels_are_one_line(monkeypatch):
    monkeypatch.setattr(images, "PIXEL_LIMIT", 5)
    with pytest.raises(UserError, match="3 x 2"):
        images.decode(encoded(Image.new("RGB", (3, 2))))


def test_small_images_are_enlarged_by_pils_bicubic_not_by_repeating():
    noise = np.random.default_rng(0).integers(0, 255, (5, 5, 3), np.uint8)
    expected = Image.fromarray(noise).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(images.to_square(noise, 16, resize="area"), expected)
