"""Images as bytes and arrays: decoding, cropping to a square, resizing, and the two pixel scales.

Networks see float32 images in [-1, 1], NHWC; files and everything displayed are uint8. Transparent
images are composited on white. Files are untrusted: only FORMATS are opened, and the LIMITs bound
the memory that a file can take.
"""

import contextlib
import importlib.util
import io
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Array, Bool, Float, Num, UInt8
from PIL import Image, UnidentifiedImageError

from unclip_jax.core.errors import UserError

Crop = Literal["pad", "center", "random", "squash"]
Resize = Literal["area", "lanczos", "bicubic"]
WHITE = (255, 255, 255)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # of PIL's 43, some run other programs
if importlib.util.find_spec("PIL.AvifImagePlugin"):  # Pillow 11.3 and later
    FORMATS += ("AVIF",)
PIXEL_LIMIT = 50_000_000  # of a decoded image; below PIL's own warning
FILE_LIMIT = 64 * 2**20  # bytes of an encoded image
_BAND = 2**20  # pixels converted at a time
_TALL_LIMIT = 2**14  # rows
# What PIL's decoders raise for damaged files, besides PIL's own errors.
_DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError),
    *(MemoryError, NotImplementedError, OSError, RuntimeError, struct.error, SyntaxError),
    *(TypeError, UserWarning, ValueError),  # a warning where warnings are errors
)
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by EXIF's orientation
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
FILTERS = {
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
}


def decode(data: bytes, longest: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image to RGB, upright by EXIF, composited on white; an animation's first frame.

    Args:
        longest: side in pixels from which on an image is shrunk, by the largest whole factor that
            leaves its longer side at least as long; None shrinks nothing.

    Raises:
        UserError: the bytes are not a complete image of one of FORMATS, or it is too large.
    """
    return _read(data, lambda image: _by_bands(image, flatten, _factor(image, longest)))


def decode_mask(data: bytes) -> Bool[np.ndarray, "h w"]:
    """Decodes an inpainting mask, True where it is transparent or, without alpha, white."""

    def fill(image: Image.Image) -> np.ndarray:
        if _has_alpha(image):
            alpha = _by_bands(image, _alpha)
            if alpha.min() < 255:
                return alpha < 128
        return _by_bands(image, lambda part: flatten(part).convert("L")) >= 128

    return _read(data, fill)


def decode_opaque(data: bytes, longest: int | None = None) -> Bool[np.ndarray, "h w"]:
    """Decodes where an image is not transparent, such as what is painted on a clear layer.

    Args:
        longest: as of `decode`.
    """
    return _read(data, lambda image: _by_bands(image, _alpha, _factor(image, longest)) >= 128)


def read_bytes(path: Path) -> bytes:
    """Reads an image file without decoding it.

    Raises:
        UserError: it cannot be read, is not a file, or has more than FILE_LIMIT bytes.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device might never end
            raise UserError(f"{path} is not a file")
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if len(data) > FILE_LIMIT:
        raise UserError(f"{path} is too large for an image: more than {FILE_LIMIT / 2**20:.0f} MiB")
    return data


@contextlib.contextmanager
def without_size_warning() -> Iterator[None]:
    """Silences PIL's warnings about large images, which PIXEL_LIMIT rejects, and damaged EXIF.

    Warning filters are global to the process, so `decode`, which is called in threads, leaves them
    alone.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged EXIF data
        yield


def _read(data: bytes, read: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    known = ", ".join(FORMATS)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if not 0 < image.width * image.height <= PIXEL_LIMIT:
                raise UserError(
                    f"image of {image.width} x {image.height} pixels; it must have 1 to "
                    f"{PIXEL_LIMIT:,} pixels"
                )
            pixels = read(image)
            return np.ascontiguousarray(_UPRIGHT.get(_orientation(image), np.asarray)(pixels))
    except UnidentifiedImageError as error:
        raise UserError(f"not a readable image; supported formats: {known}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"image too large, more than {PIXEL_LIMIT:,} pixels") from error
    except _DAMAGE as error:
        raise UserError(f"not a readable image: {error or type(error).__name__}") from error


def _by_bands(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image], factor: int = 1
) -> np.ndarray:
    """Converts a few rows at a time, so that intermediate copies stay small.

    Args:
        factor: pixels a side that become one, by their mean.
    """
    rows = max(1, _BAND // image.width // factor) * factor
    out = None
    for top in range(0, image.height, rows):
        part = convert(image.crop((0, top, image.width, min(top + rows, image.height))))
        band = np.asarray(part.reduce(factor) if factor > 1 else part)
        if out is None:
            out = np.empty((-(-image.height // factor), *band.shape[1:]), band.dtype)
        out[top // factor : top // factor + len(band)] = band
    return out


def _factor(image: Image.Image, longest: int | None) -> int:
    """Returns the whole number that an image is shrunk by."""
    return 1 if longest is None else max(1, max(image.size) // longest)


def _alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").getchannel("A")


def _orientation(image: Image.Image) -> int:
    """Returns EXIF's orientation; 1, which is upright, if the EXIF data cannot be read."""
    try:
        value = image.getexif().get(0x0112, 1)
        return value if isinstance(value, int) else 1
    except _DAMAGE:
        return 1


def flatten(image: Image.Image) -> Image.Image:
    """Converts any PIL image to RGB, composited on white."""
    if image.mode == "RGB" and not _has_alpha(image):
        image.load()
        return image
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, (*WHITE, 255))
        return Image.alpha_composite(background, rgba).convert("RGB")
    if image.mode.startswith("I"):  # 16 bits, which PIL would clip at 255
        gray = np.clip(np.asarray(image, np.int64), 0, 65535)
        return Image.fromarray(np.round(gray / 257.0).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encodes an RGB array as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def to_square(
    image: UInt8[np.ndarray, "h w 3"],
    size: int,
    *,
    crop: Crop = "pad",
    resize: Resize = "area",
    offset: float = 0.5,
) -> UInt8[np.ndarray, "size size 3"]:
    """Returns a `size` x `size` image, antialiased when downsampling.

    "pad" pads with white to a square, "center" and "random" crop the largest square (at `offset` in
    [0, 1] along the longer side; the middle for "center"), "squash" changes the aspect ratio.
    Upsampling by "area" would repeat pixels, so bicubic is used instead.
    """
    height, width = image.shape[:2]
    side = max(height, width) if crop == "pad" else min(height, width)
    method = FILTERS["bicubic" if side < size and resize == "area" else resize]
    square = Image.fromarray(image)
    if crop == "pad" and height != width:
        return _padded(square, size, method)
    if crop in ("center", "random") and height != width:
        offset = 0.5 if crop == "center" else offset
        left, top = round((width - side) * offset), round((height - side) * offset)
        square = square.crop((left, top, left + side, top + side))
    if square.size == (size, size):
        return np.asarray(square)
    return np.asarray(square.resize((size, size), method))


def _padded(
    image: Image.Image, size: int, method: Image.Resampling
) -> UInt8[np.ndarray, "size size 3"]:
    """Pads an image with white to a square and resizes it, without building that square.

    The filters are separable, and PIL takes the rows first. A wide image's rows need no padding; a
    tall one's are padded a few at a time. Of a very tall image the columns are resized first: the
    order of rounding differs, but padded rows would be as wide as the image is tall.
    """
    width, height = image.size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    if width < height <= _TALL_LIMIT:
        columns = Image.new("RGB", (size, height))
        for first in range(0, height, max(1, _BAND // side)):
            last = min(first + max(1, _BAND // side), height)
            band = Image.new("RGB", (side, last - first), WHITE)
            band.paste(image.crop((0, first, width, last)), (left, 0))
            columns.paste(band.resize((size, last - first), method), (0, first))
        return np.asarray(columns.resize((size, size), method))
    wide = width > height
    image = image.resize((size, height) if wide else (width, size), method)
    canvas = Image.new("RGB", (size, side) if wide else (side, size), WHITE)
    canvas.paste(image, (0, top) if wide else (left, 0))
    return np.asarray(canvas.resize((size, size), method))


def to_float(
    images: Num[Array | np.ndarray, "*b h w c"],
) -> Float[Array | np.ndarray, "*b h w c"]:
    """Maps 0..255 to [-1, 1]: x = u / 127.5 - 1, float32; NumPy arrays give NumPy arrays."""
    return images.astype(np.float32) / 127.5 - 1.0


def to_uint8(
    images: Float[Array | np.ndarray, "*b h w c"],
) -> UInt8[Array | np.ndarray, "*b h w c"]:
    """Maps [-1, 1] to 0..255: u = round((x + 1) 127.5), clipped; the inverse of `to_float`."""
    return _levels(images).astype(np.uint8)


def round_to_8_bits(
    images: Float[Array | np.ndarray, "*b h w c"],
) -> Float[Array | np.ndarray, "*b h w c"]:
    """Rounds images in [-1, 1] to the values of 8-bit images: `to_float` of `to_uint8`."""
    return to_float(_levels(images))


def _levels(
    images: Float[Array | np.ndarray, "*b h w c"],
) -> Float[Array | np.ndarray, "*b h w c"]:
    scaled = (images.astype(np.float32) + 1.0) * 127.5
    return scaled.round().clip(0.0, 255.0)
