"""Changes of an image's colours, each bit for bit torchvision's v2 functional of the same name on a PIL image.

An image is uint8 (height, width, channels), RGB or grey. It is not written to; the result has its shape, and may be
the image itself. Each step is Pillow's, or the same numbers from something faster.
"""

from itertools import permutations
from typing import Annotated

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from imgpipe.common.rules import Interval
from imgpipe.data.packed import Pixels
from imgpipe.model.randomness import Floats

GREYS = np.arange(256, dtype=np.uint8)[None]
"""Every value of a pixel, as an image of one row: what a function of single values makes of it is its table."""

SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
"""Pillow's ImageFilter.SMOOTH."""


def as_image(image: Pixels) -> Image.Image:
    """The image for Pillow, of mode RGB or L."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def as_pixels(image: Image.Image) -> Pixels:
    """The pixels of an image of mode RGB or L: uint8 (height, width, channels)."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def brightness(image: Pixels, factor: float) -> Pixels:
    """From black at 0 over the image at 1 to brighter."""
    return _away_from(0, image, factor)


def contrast(image: Pixels, factor: float) -> Pixels:
    """From its mean grey at 0 over the image at 1 to more contrast."""
    mean = np.asarray(as_image(image).convert("L")).mean()
    return _away_from(int(mean + 0.5), image, factor)


def saturation(image: Pixels, factor: float) -> Pixels:
    """From grey at 0 over the image at 1 to more colourful; a grey image stays as it is."""
    return image if image.shape[2] == 1 else as_pixels(ImageEnhance.Color(as_image(image)).enhance(factor))


def hue(image: Pixels, shift: float) -> Pixels:
    """Every hue turned by ``shift`` of the colour circle, -0.5 to 0.5; a grey image stays as it is."""
    if image.shape[2] == 1:
        return image
    # note: 0.5 turns by 127 of Pillow's 256 hues, as in torchvision
    turned = np.roll(GREYS[0], -int(shift * 255))
    table = [*turned.tolist(), *range(256), *range(256)]
    return as_pixels(as_image(image).convert("HSV").point(table).convert("RGB"))


def sharpness(image: Pixels, factor: float) -> Pixels:
    """From smoothed at 0 over the image at 1 to sharper; the pixels at the edges stay as they are."""
    # six times as fast as Pillow's filter, and no sum of thirteenths is so near a half that rounding could differ
    smooth = np.asarray(cv2.filter2D(image, -1, SMOOTH), dtype=np.uint8).reshape(image.shape)
    smooth[[0, -1]] = image[[0, -1]]
    smooth[:, [0, -1]] = image[:, [0, -1]]
    return _blend(smooth, image, factor)


def posterize(image: Pixels, bits: int) -> Pixels:
    """The highest ``bits`` of 8 kept of each value, 1 to 8."""
    return image & np.uint8(256 - 2 ** (8 - bits))


def solarize(image: Pixels, threshold: float) -> Pixels:
    """Values from the threshold on inverted, 0 to 255."""
    return _looked_up(image, np.where(threshold <= GREYS, 255 - GREYS, GREYS))


def autocontrast(image: Pixels) -> Pixels:
    """Each channel stretched to reach from 0 to 255."""
    return as_pixels(ImageOps.autocontrast(as_image(image)))


def equalize(image: Pixels) -> Pixels:
    """The values of each channel spread so that their histogram is as even as it can be."""
    return as_pixels(ImageOps.equalize(as_image(image)))


def _away_from(grey: int, image: Pixels, factor: float) -> Pixels:
    return _looked_up(image, _blend(np.full_like(GREYS, grey), GREYS, factor))


def _blend(start: Pixels, end: Pixels, factor: float) -> Pixels:
    """``start + factor * (end - start)`` for each value, as Pillow computes and cuts it."""
    first, last = (Image.fromarray(values.reshape(len(values), -1)) for values in (start, end))
    return np.asarray(Image.blend(first, last, factor)).reshape(end.shape)


def _looked_up(image: Pixels, table: Pixels) -> Pixels:
    return np.asarray(cv2.LUT(image, table.reshape(256)), dtype=np.uint8).reshape(image.shape)


STEPS = (brightness, contrast, saturation, hue)
ORDERS = tuple(permutations(range(len(STEPS))))

COLOUR_JITTER_DRAWS = 5
"""How many random numbers colour_jitter uses."""


def colour_jitter(
    image: Pixels,
    row: Floats,
    *,
    brightness: Annotated[float, Interval(low=0)],
    contrast: Annotated[float, Interval(low=0)],
    saturation: Annotated[float, Interval(low=0)],
    hue: Annotated[float, Interval(0, 0.5)],
) -> Pixels:
    """Brightness, contrast, saturation and hue changed by random amounts in a random order.

    A factor is uniform from ``max(0, 1 - amount)`` to ``1 + amount``, the turn of hue from ``-hue`` to ``hue``; an
    amount of 0 leaves its step out (torchvision's ColorJitter).
    """
    ranges = [(max(0.0, 1 - amount), 1 + amount) for amount in (brightness, contrast, saturation)] + [(-hue, hue)]
    for step in ORDERS[int(row[4] * len(ORDERS))]:
        low, high = ranges[step]
        if low < high:
            image = STEPS[step](image, low + float(row[step]) * (high - low))
    return image
