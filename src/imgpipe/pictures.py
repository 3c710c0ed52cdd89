"""Picture files to pixels."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from imgpipe.errors import InputError

MODES = {1: "L", 3: "RGB"}


def open_picture(content: bytes, name: str) -> Image.Image:
    """The decoded picture, turned upright as its EXIF says. Raises InputError, with its name, if it can't be read."""
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(f"picture '{name}' can't be read: {reason}; mend or remove it") from None
    if upright.mode == "F":
        raise InputError(
            f"picture '{name}' has floating-point pixels, whose range is unknown; save it with 8 or 16 bits"
        )
    return upright


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8, where Pillow would clip; transparency laid on white."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA"))
    return image


def short_side_to(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height with the short side of ``short`` pixels and the same proportions.

    >>> short_side_to((400, 533), 100)
    (100, 133)
    """
    scale = short / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def pixels(image: Image.Image, *, short_side: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture as uint8 (height, width, channels), resized with Pillow's antialiased bilinear filter."""
    resized = (
        _eight_bits(image)
        .convert(MODES[channels])
        .resize(short_side_to(image.size, short_side), Image.Resampling.BILINEAR)
    )
    return np.asarray(resized).reshape(resized.height, resized.width, channels)
