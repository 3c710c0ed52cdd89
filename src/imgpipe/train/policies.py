"""Policies: operations drawn from a table, each with one of 31 magnitudes, as torchvision's defaults have them.

TrivialAugment: Mueller and Hutter 2021, arXiv 2103.10158, algorithm 1, in its wide space. RandAugment: Cubuk et al.
2020, arXiv 1909.13719, figure 2. An image is uint8 (height, width, channels), RGB or grey. It is not written to; the
result has its shape, and may be the image itself.
"""

from collections.abc import Callable
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


def shear_x(image: Pixels, slope: float) -> Pixels:
    """Each row moved to the left by ``slope`` times its distance from the top."""
    return _affine(image, (1, slope, 0, 0, 1, 0))


def shear_y(image: Pixels, slope: float) -> Pixels:
    """Each column moved up by ``slope`` times its distance from the left."""
    return _affine(image, (1, 0, 0, slope, 1, 0))


def translate_x(image: Pixels, distance: float) -> Pixels:
    """Moved to the right by whole pixels, the fraction dropped."""
    return _affine(image, (1, 0, -int(distance), 0, 1, 0))


def translate_y(image: Pixels, distance: float) -> Pixels:
    """Moved down by whole pixels, the fraction dropped."""
    return _affine(image, (1, 0, 0, 0, 1, -int(distance)))


def rotate(image: Pixels, degrees: float) -> Pixels:
    """Turned counterclockwise around its middle."""
    return as_pixels(as_image(image).rotate(degrees))


def _affine(image: Pixels, matrix: tuple[float, ...]) -> Pixels:
    """The pixel at (x, y) is the one nearest to (a x + b y + c, d x + e y + f) in the image, black outside of it."""
    pil = as_image(image)
    return as_pixels(pil.transform(pil.size, Image.Transform.AFFINE, matrix))


Operation = tuple[Callable[[Pixels, float], Pixels], float, float, bool]

TRIVIAL_AUGMENT: dict[str, Operation] = {
    # its function, the argument at magnitude 0, how far that goes until magnitude 30, and whether to either side
    "Identity": (lambda image, _: image, 0, 0, False),
    "ShearX": (shear_x, 0, 0.99, True),
    "ShearY": (shear_y, 0, 0.99, True),
    "TranslateX": (translate_x, 0, 32, True),
    "TranslateY": (translate_y, 0, 32, True),
    "Rotate": (rotate, 0, 135, True),
    "Brightness": (brightness, 1, 0.99, True),
    "Color": (saturation, 1, 0.99, True),
    "Contrast": (contrast, 1, 0.99, True),
    "Sharpness": (sharpness, 1, 0.99, True),
    "Posterize": (lambda image, bits: posterize(image, round(bits)), 8, -6, False),
    "Solarize": (solarize, 255, -255, False),
    "AutoContrast": (lambda image, _: autocontrast(image), 0, 0, False),
    "Equalize": (lambda image, _: equalize(image), 0, 0, False),
}

RAND_AUGMENT: dict[str, Operation] = TRIVIAL_AUGMENT | {
    "ShearX": (shear_x, 0, 0.3, True),
    "ShearY": (shear_y, 0, 0.3, True),
    # 150 of 331 parts of the side, as in torchvision
    "TranslateX": (lambda image, of_331: translate_x(image, of_331 * image.shape[1] / 331), 0, 150, True),
    "TranslateY": (lambda image, of_331: translate_y(image, of_331 * image.shape[0] / 331), 0, 150, True),
    "Rotate": (rotate, 0, 30, True),
    "Brightness": (brightness, 1, 0.9, True),
    "Color": (saturation, 1, 0.9, True),
    "Contrast": (contrast, 1, 0.9, True),
    "Sharpness": (sharpness, 1, 0.9, True),
    "Posterize": (lambda image, bits: posterize(image, round(bits)), 8, -4, False),
}

MAGNITUDES = 31
MOST_OPERATIONS = 4
"""How many operations rand_augment applies at most, so that its random numbers fit in a row."""

TRIVIAL_AUGMENT_DRAWS = 3
RAND_AUGMENT_DRAWS = 2 * MOST_OPERATIONS
"""How many random numbers each uses."""


def trivial_augment(image: Pixels, row: Floats) -> Pixels:
    """One operation of TRIVIAL_AUGMENT with one of its magnitudes, each as likely as the others."""
    return _operate(TRIVIAL_AUGMENT, image, row[0], int(row[1] * MAGNITUDES), row[2])


def rand_augment(
    image: Pixels,
    row: Floats,
    *,
    operations: Annotated[int, Interval(1, MOST_OPERATIONS)],
    magnitude: Annotated[int, Interval(0, MAGNITUDES - 1)],
) -> Pixels:
    """So many operations of RAND_AUGMENT one after the other, all with the same magnitude, 0 to 30."""
    for i in range(operations):
        image = _operate(RAND_AUGMENT, image, row[2 * i], magnitude, row[2 * i + 1])
    return image


def _operate(table: dict[str, Operation], image: Pixels, which: float, magnitude: int, side: float) -> Pixels:
    """The operation that one number chooses, to the side that another does."""
    function, start, reach, either_side = list(table.values())[int(which * len(table))]
    change = reach * magnitude / (MAGNITUDES - 1)
    return function(image, start - change if either_side and side < 0.5 else start + change)
