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
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"picture '{name}' can't be read: {error}; mend or remove it") from None


def short_side_to(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height with the short side of ``short`` pixels and the same proportions.

    >>> short_side_to((400, 533), 100)
    (100, 133)
    """
    scale = short / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def pixels(image: Image.Image, *, short_side: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture as uint8 (height, width, channels), resized with Pillow's antialiased bilinear filter."""
    resized = image.convert(MODES[channels]).resize(short_side_to(image.size, short_side), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(resized.height, resized.width, channels)
