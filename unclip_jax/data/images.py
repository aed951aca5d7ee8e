"""Pictures as bytes and arrays: decoding, fitting to a square, resizing, and the two pixel scales.

Inside the program an image is float32 in [-1, 1], NHWC; only this module, and what is written or
shown, speaks uint8. Transparent pictures are laid on white.
"""

import io
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from unclip_jax.core.errors import UserError

Crop = Literal["pad", "center", "random", "squash"]
Resize = Literal["area", "lanczos", "bicubic"]
WHITE = (255, 255, 255)
PIXEL_LIMIT = 50_000_000  # of a picture that is read; below PIL's own warning
FILTERS = {
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
}


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes PNG, JPEG, WebP or GIF bytes to RGB, upright, transparency laid on white.

    Raises:
        UserError: the bytes are no picture, a cut-off one, or one of too many pixels.
    """
    return _read(data, lambda image: np.asarray(flatten(image)))


def decode_mask(data: bytes) -> Bool[np.ndarray, "h w"]:
    """Decodes a mask, True where something is to be made: white, or transparent if it has alpha."""

    def fill(image: Image.Image) -> np.ndarray:
        if _has_alpha(image):
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if alpha.min() < 255:
                return alpha < 128
        return np.asarray(flatten(image).convert("L")) >= 128

    return _read(data, fill)


def _read(data: bytes, read: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise UserError(
                    f"picture too large: {image.width} x {image.height}, more than "
                    f"{PIXEL_LIMIT:,} pixels"
                )
            return read(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise UserError("not a readable picture: in no format that is known here") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"not a readable picture: {error}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"picture too large: {error}") from error


def flatten(image: Image.Image) -> Image.Image:
    """Converts any PIL image to RGB, laying what is transparent on white."""
    if image.mode == "RGB" and not _has_alpha(image):
        image.load()
        return image
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (*WHITE, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    if image.mode.startswith("I"):  # 16 bits: PIL would cut them off at 255
        grey = np.clip(np.asarray(image, np.int64), 0, 65535)
        return Image.fromarray(np.round(grey / 257.0).astype(np.uint8)).convert("RGB")
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
    """Makes a `size` x `size` picture, filtered so that shrinking does not alias.

    "pad" keeps everything and fills up with white, "center" and "random" keep the largest square
    (at `offset` in [0, 1] along the longer side; the middle for "center"), "squash" stretches.
    Enlarging by "area" would repeat pixels, so it is done with bicubic.
    """
    height, width = image.shape[:2]
    side = max(height, width) if crop == "pad" else min(height, width)
    picture = Image.fromarray(image)
    if crop == "pad" and height != width:
        ground = Image.new("RGB", (side, side), WHITE)
        ground.paste(picture, ((side - width) // 2, (side - height) // 2))
        picture = ground
    elif crop in ("center", "random") and height != width:
        offset = 0.5 if crop == "center" else offset
        left, top = round((width - side) * offset), round((height - side) * offset)
        picture = picture.crop((left, top, left + side, top + side))
    if picture.size == (size, size):
        return np.asarray(picture)
    enlarging = min(picture.size) < size
    method = FILTERS["bicubic" if enlarging and resize == "area" else resize]
    return np.asarray(picture.resize((size, size), method))


def to_float(
    images: UInt8[Array, "*b h w c"] | UInt8[np.ndarray, "*b h w c"],
) -> Float[Array, "*b h w c"]:
    """Maps 0..255 to [-1, 1]: x = u / 127.5 - 1, float32."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


def to_uint8(images: Float[Array, "*b h w c"]) -> UInt8[Array, "*b h w c"]:
    """Maps [-1, 1] to 0..255: u = round((x + 1) 127.5), clipped; the inverse of `to_float`."""
    scaled = (jnp.asarray(images, jnp.float32) + 1.0) * 127.5
    return jnp.clip(jnp.round(scaled), 0.0, 255.0).astype(jnp.uint8)
