"""Policies of augmentation: colour jitter, TrivialAugment and RandAugment, as torchvision's defaults have them.

An image is uint8 (height, width, channels), RGB or grey. No function writes to it; each returns an image of its shape,
which may be the same one. A policy is a function of an image and its row of random numbers.

Colours are computed in the image's levels, the same whole numbers as float32, which functions of levels change in
place. Each rounds and cuts its result, so that one follows another as if there were pixels in between.

TrivialAugment: Mueller and Hutter 2021, arXiv 2103.10158, algorithm 1, in its wide space. RandAugment: Cubuk et al.
2020, arXiv 1909.13719, figure 2.
"""

from collections.abc import Callable
from itertools import permutations
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.common.rules import Interval
from imgpipe.data.packed import Pixels
from imgpipe.model.randomness import Floats

Levels = NDArray[np.float32]
"""An image of whole numbers, float32 (height, width, channels)."""

LEVELS = np.arange(256, dtype=np.uint8)[None]
"""Every level of a pixel, as an image of one row: what a function of single levels makes of it is its table."""

GREY = np.array([[19595, 38470, 7471, 32768]], dtype=np.float32) / 65536
"""Pillow's grey of red, green and blue, and the half that rounds it. In float32 no digit of it is lost."""

SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
"""Pillow's ImageFilter.SMOOTH."""


def on_pixels(change: Callable[[Levels, float], None]) -> Callable[[Pixels, float], Pixels]:
    """Make a function of an image from one that changes its levels in place."""

    def changed(image: Pixels, amount: float) -> Pixels:
        levels = _as_levels(image)
        change(levels, amount)
        return levels.astype(np.uint8)

    return changed


def brightness(levels: Levels, factor: float) -> None:
    """Blend the image with black: 0 is black, 1 the image, more is brighter."""
    levels *= np.float32(factor)
    _cut(levels, factor)


def contrast(levels: Levels, factor: float) -> None:
    """Blend the image with its mean grey: 0 is that grey, 1 the image, more has more contrast."""
    mean = cv2.sumElems(_greys(levels))[0] / levels[..., 0].size
    _blend(np.float32(int(mean + 0.5)), levels, factor)


def saturation(levels: Levels, factor: float) -> None:
    """Blend the image with its greys: 0 is grey, 1 the image, more is more colourful; a grey image stays as it is."""
    if levels.shape[2] == 3:
        _blend(np.asarray(cv2.cvtColor(_greys(levels), cv2.COLOR_GRAY2RGB), np.float32), levels, factor)


def hue(levels: Levels, shift: float) -> None:
    """Turn every hue by ``shift`` of the colour circle, -0.5 to 0.5; a grey image stays as it is.

    Each level is the nearest to the exact one: torchvision's for tensors, which cuts it, is up to 1 off. Pillow's HSV,
    of 256 hues and 256 saturations, is up to 19 off, and takes ten times as long.
    """
    if levels.shape[2] == 3:
        hsv = np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2HSV), np.float32)
        hsv[..., 0] += 360 * (shift % 1)  # OpenCV takes hues from 360 degrees on, but none below 0
        cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=levels)
        np.rint(levels, out=levels)


def sharpness(levels: Levels, factor: float) -> None:
    """Blend the image with a smoothed one: 0 is smoothed, 1 the image, more is sharper; the edges stay as they are."""
    # six times as fast as Pillow's filter, and no sum of thirteenths is so near a half that rounding could differ
    smooth = np.rint(np.asarray(cv2.filter2D(levels, -1, SMOOTH), np.float32)).reshape(levels.shape)
    smooth[[0, -1]] = levels[[0, -1]]
    smooth[:, [0, -1]] = levels[:, [0, -1]]
    _blend(smooth, levels, factor)


def brightened(image: Pixels, factor: float) -> Pixels:
    """Do what ``brightness`` does by looking each level up, which for this alone is faster."""
    return _looked_up(image, on_pixels(brightness)(LEVELS, factor))


def posterize(image: Pixels, bits: int) -> Pixels:
    """Keep the highest ``bits`` of the 8 of each level, 1 to 8."""
    return image & np.uint8(256 - 2 ** (8 - bits))


def solarize(image: Pixels, threshold: float) -> Pixels:
    """Invert the levels from the threshold on, 0 to 255."""
    return _looked_up(image, np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS))


def autocontrast(image: Pixels) -> Pixels:
    """Stretch the levels of each channel to reach from 0 to 255: Pillow's, at twice its speed."""
    low = image.min(axis=0).min(axis=0).astype(np.float64)
    spread = image.max(axis=0).max(axis=0) - low
    scale = 255 / np.where(spread, spread, 255)  # what has one level stays
    tables = np.clip(LEVELS.T * scale - np.where(spread, low, 0) * scale, 0, 255)
    return _looked_up(image, tables.astype(np.uint8))


def equalize(image: Pixels) -> Pixels:
    """Spread the levels of each channel so that their histogram is as even as it can be: Pillow's, but faster."""
    tables = np.repeat(LEVELS.T, image.shape[2], axis=1)
    for channel in range(image.shape[2]):
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        if step:
            tables[:, channel] = np.minimum((step // 2 + counts.cumsum() - counts) // step, 255)
    return _looked_up(image, tables)


def shear_x(image: Pixels, slope: float) -> Pixels:
    """Move each row to the left by ``slope`` times its distance from the top."""
    return _affine(image, (1, slope, 0, 0, 1, 0))


def shear_y(image: Pixels, slope: float) -> Pixels:
    """Move each column up by ``slope`` times its distance from the left."""
    return _affine(image, (1, 0, 0, slope, 1, 0))


def translate_x(image: Pixels, distance: float) -> Pixels:
    """Move the image to the right by whole pixels, the fraction dropped."""
    return _moved(image, int(distance), 0)


def translate_y(image: Pixels, distance: float) -> Pixels:
    """Move the image down by whole pixels, the fraction dropped."""
    return _moved(image, 0, int(distance))


def rotate(image: Pixels, degrees: float) -> Pixels:
    """Turn the image counter-clockwise around its middle, to the nearest pixel."""
    return _as_pixels(_as_pillow(image).rotate(degrees))


JITTER_STEPS = (brightness, contrast, saturation, hue)
JITTER_ORDERS = tuple(permutations(range(len(JITTER_STEPS))))

COLOUR_JITTER_DRAWS = 5
"""How many random numbers colour_jitter uses: one for each step, and one for their order."""


def colour_jitter(
    image: Pixels,
    row: Floats,
    *,
    brightness: Annotated[float, Interval(low=0)],
    contrast: Annotated[float, Interval(low=0)],
    saturation: Annotated[float, Interval(low=0)],
    hue: Annotated[float, Interval(0, 0.5)],
) -> Pixels:
    """Change brightness, contrast, saturation and hue by random amounts in a random order (torchvision's ColorJitter).

    A factor is uniform from ``max(0, 1 - amount)`` to ``1 + amount``, the turn of hue from ``-hue`` to ``hue``. An
    amount of 0 leaves its step out.
    """
    ranges = [(max(0.0, 1 - amount), 1 + amount) for amount in (brightness, contrast, saturation)] + [(-hue, hue)]
    levels = _as_levels(image)
    for step in JITTER_ORDERS[int(row[4] * len(JITTER_ORDERS))]:
        low, high = ranges[step]
        if low < high:
            JITTER_STEPS[step](levels, low + float(row[step]) * (high - low))
    return levels.astype(np.uint8)


class Operation(NamedTuple):
    """An operation of TrivialAugment or RandAugment, whose argument depends on the magnitude, 0 to 30, in a line."""

    apply: Callable[[Pixels, float], Pixels]
    start: float
    """The argument at magnitude 0."""
    reach: float
    """How far it is from there at magnitude 30."""
    either_side: bool
    """Whether it lies as often on the other side of the start."""


TRIVIAL_AUGMENT: dict[str, Operation] = {
    "Identity": Operation(lambda image, _: image, 0, 0, False),
    "ShearX": Operation(shear_x, 0, 0.99, True),
    "ShearY": Operation(shear_y, 0, 0.99, True),
    "TranslateX": Operation(translate_x, 0, 32, True),
    "TranslateY": Operation(translate_y, 0, 32, True),
    "Rotate": Operation(rotate, 0, 135, True),
    "Brightness": Operation(brightened, 1, 0.99, True),
    "Color": Operation(on_pixels(saturation), 1, 0.99, True),
    "Contrast": Operation(on_pixels(contrast), 1, 0.99, True),
    "Sharpness": Operation(on_pixels(sharpness), 1, 0.99, True),
    "Posterize": Operation(lambda image, bits: posterize(image, round(bits)), 8, -6, False),
    "Solarize": Operation(solarize, 255, -255, False),
    "AutoContrast": Operation(lambda image, _: autocontrast(image), 0, 0, False),
    "Equalize": Operation(lambda image, _: equalize(image), 0, 0, False),
}

RAND_AUGMENT: dict[str, Operation] = TRIVIAL_AUGMENT | {
    "ShearX": Operation(shear_x, 0, 0.3, True),
    "ShearY": Operation(shear_y, 0, 0.3, True),
    # 150 of 331 parts of the side, as in torchvision
    "TranslateX": Operation(lambda image, of_331: translate_x(image, of_331 * image.shape[1] / 331), 0, 150, True),
    "TranslateY": Operation(lambda image, of_331: translate_y(image, of_331 * image.shape[0] / 331), 0, 150, True),
    "Rotate": Operation(rotate, 0, 30, True),
    "Brightness": Operation(brightened, 1, 0.9, True),
    "Color": Operation(on_pixels(saturation), 1, 0.9, True),
    "Contrast": Operation(on_pixels(contrast), 1, 0.9, True),
    "Sharpness": Operation(on_pixels(sharpness), 1, 0.9, True),
    "Posterize": Operation(lambda image, bits: posterize(image, round(bits)), 8, -4, False),
}

MAGNITUDES = 31
MOST_OPERATIONS = 4
"""How many operations rand_augment applies at most, so that its random numbers fit in a row."""

TRIVIAL_AUGMENT_DRAWS = 3
RAND_AUGMENT_DRAWS = 2 * MOST_OPERATIONS
"""How many random numbers each uses."""


def trivial_augment(image: Pixels, row: Floats) -> Pixels:
    """Apply one operation of TRIVIAL_AUGMENT with one of its magnitudes, each as likely as the others."""
    return _operate(TRIVIAL_AUGMENT, image, row[0], int(row[1] * MAGNITUDES), row[2])


def rand_augment(
    image: Pixels,
    row: Floats,
    *,
    operations: Annotated[int, Interval(1, MOST_OPERATIONS)],
    magnitude: Annotated[int, Interval(0, MAGNITUDES - 1)],
) -> Pixels:
    """Apply so many operations of RAND_AUGMENT one after the other, all with the same magnitude."""
    for i in range(operations):
        image = _operate(RAND_AUGMENT, image, row[2 * i], magnitude, row[2 * i + 1])
    return image


def _operate(table: dict[str, Operation], image: Pixels, which: float, magnitude: int, side: float) -> Pixels:
    """Apply the operation that one random number chooses, to the side that another does."""
    apply, start, reach, either_side = list(table.values())[int(which * len(table))]
    change = reach * magnitude / (MAGNITUDES - 1)
    return apply(image, start - change if either_side and side < 0.5 else start + change)


def _as_pillow(image: Pixels) -> Image.Image:
    """Return the image for Pillow, of mode RGB or L."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _as_pixels(image: Image.Image) -> Pixels:
    """Return the pixels of a Pillow image of mode RGB or L."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def _as_levels(image: Pixels) -> Levels:
    """Return a copy of the image as levels."""
    return image.astype(np.float32, order="C")


def _greys(levels: Levels) -> Levels:
    """Return the grey of each pixel as Pillow rounds it, float32 (height, width)."""
    if levels.shape[2] == 1:
        return levels[..., 0]
    greys = np.asarray(cv2.transform(levels, GREY), np.float32)
    return np.floor(greys, out=greys)


def _blend(start: Levels | np.float32, levels: Levels, factor: float) -> None:
    """Make of the levels ``start + factor * (levels - start)``, as Pillow computes and cuts it."""
    levels -= start
    levels *= np.float32(factor)
    levels += start
    _cut(levels, factor)


def _cut(levels: Levels, factor: float) -> None:
    """Cut what a factor made of levels to whole ones from 0 to 255, where a factor from 0 to 1 left them."""
    if not 0 <= factor <= 1:  # OpenCV does it in less time than numpy's clip
        cv2.threshold(levels, 255.0, 0.0, cv2.THRESH_TRUNC, dst=levels)
        cv2.threshold(levels, 0.0, 0.0, cv2.THRESH_TOZERO, dst=levels)
    np.floor(levels, out=levels)


def _looked_up(image: Pixels, table: Pixels) -> Pixels:
    """Replace each level by the table's, uint8 (1, 256), or by that of its channel, uint8 (256, channels)."""
    table = table.reshape(1, 256, -1)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8).reshape(image.shape)


def _moved(image: Pixels, right: int, down: int) -> Pixels:
    """Move the image by whole pixels, black where nothing comes to lie."""
    moved = np.zeros_like(image)
    height, width = image.shape[:2]
    there = image[max(-down, 0) : max(height - down, 0), max(-right, 0) : max(width - right, 0)]
    moved[max(down, 0) : max(height + down, 0), max(right, 0) : max(width + right, 0)] = there
    return moved


def _affine(image: Pixels, matrix: tuple[float, ...]) -> Pixels:
    """Take the pixel at (x, y) from the nearest to (a x + b y + c, d x + e y + f), black outside of the image.

    matrix: (a, b, c, d, e, f).
    """
    pillow = _as_pillow(image)
    return _as_pixels(pillow.transform(pillow.size, Image.Transform.AFFINE, matrix))
