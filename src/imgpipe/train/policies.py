"""Policies: operations drawn from a table, each with one of 31 magnitudes, as torchvision's defaults have them.

TrivialAugment: Mueller and Hutter 2021, arXiv 2103.10158, algorithm 1, in its wide space. RandAugment: Cubuk et al.
2020, arXiv 1909.13719, figure 2. An image is uint8 (height, width, channels), RGB or grey. It is not written to; the
result has its shape, and may be the image itself.
"""

from collections.abc import Callable
from typing import Annotated

from PIL import Image

from imgpipe.common.rules import Interval
from imgpipe.data.packed import Pixels
from imgpipe.model.randomness import Floats
from imgpipe.train.colours import (
    as_image,
    as_pixels,
    autocontrast,
    brightness,
    contrast,
    equalize,
    posterize,
    saturation,
    sharpness,
    solarize,
)


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
