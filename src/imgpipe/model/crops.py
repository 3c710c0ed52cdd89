"""A square cut out of each image, for training at random, each a pure function of its row of random numbers.

To add a crop: a function ``(split, numbers, rows, size, *, ...)`` with its parameters as keywords, and a line in CROPS.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated

import cv2
import numpy as np

from imgpipe.common.rules import Interval
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.randomness import Floats

TRIES = 10
"""Boxes that a random resized crop draws until one fits, as torchvision does."""

TOP, LEFT = 0, 1
AREAS, RATIOS = slice(2, 2 + TRIES), slice(2 + TRIES, 2 + 2 * TRIES)
CROP_DRAWS = RATIOS.stop
"""How many random numbers of a row crops use, and which for what."""

Fraction = Annotated[float, Interval(0, 1, open_low=True)]
Crop = Callable[[Pixels, Floats, Pixels], None]
"""Fills a square, uint8 (size, size, channels), from an image and its row."""


def resized_box(image: Pixels, top: int, left: int, height: int, width: int, square: Pixels) -> None:
    """Fills the square, uint8 (size, size, channels), with a box of the image.

    Bilinear; by area, which does not alias, where it shrinks to half or less.
    """
    box, size = image[top : top + height, left : left + width], len(square)
    if (height, width) == (size, size):
        square[:] = box
    else:
        shrunk = max(height, width) >= 2 * size
        cv2.resize(box, (size, size), dst=square, interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR)


def window(image: Pixels, top: int, left: int, square: Pixels) -> None:
    """Fills the square with what lies at (top, left), black where it reaches over an edge."""
    height, width = image.shape[:2]
    size = len(square)
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    if (y1 - y0, x1 - x0) != (size, size):
        square[:] = 0
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]


def middle(height: int, width: int, fraction: float) -> tuple[int, int, int]:
    """Top, left and side of the square in the middle of an image, with this fraction of its short side."""
    side = max(1, round(min(height, width) * fraction))
    return (height - side) // 2, (width - side) // 2, side


def centre_crop(image: Pixels, square: Pixels, *, fraction: float) -> None:
    """Fills the square with the middle, as evaluation sees it."""
    height, width = image.shape[:2]
    top, left, side = middle(height, width, fraction)
    resized_box(image, top, left, side, side, square)


def padded_crop(image: Pixels, row: Floats, square: Pixels, *, padding: int) -> None:
    """Fills the square from anywhere in the image with ``padding`` black pixels around it.

    An image whose short side is shorter than the square is first enlarged until it fits.
    """
    short, size = min(image.shape[:2]), len(square)
    if short < size:
        height, width = (round(side * size / short) for side in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height)), np.uint8).reshape(height, width, image.shape[2])
    top, left = (int(row[i] * (image.shape[i] + 2 * padding - size + 1)) - padding for i in (TOP, LEFT))
    window(image, top, left, square)


def resized_crop(
    image: Pixels,
    row: Floats,
    square: Pixels,
    *,
    scale_low: float,
    scale_high: float,
    ratio_low: float,
    ratio_high: float,
) -> None:
    """Fills the square with a random box: torchvision's RandomResizedCrop (Szegedy et al. 2015, section 6).

    scale_low, scale_high: share of the image's area. ratio_low, ratio_high: width by height, drawn on a log scale.
    """
    height, width = image.shape[:2]
    areas, ratios = row[AREAS].tolist(), row[RATIOS].tolist()
    low, high = math.log(ratio_low), math.log(ratio_high)
    for share, place in zip(areas, ratios, strict=True):
        area = (scale_low + share * (scale_high - scale_low)) * height * width
        ratio = math.exp(low + place * (high - low))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = int(row[TOP] * (height - box_height + 1)), int(row[LEFT] * (width - box_width + 1))
            resized_box(image, top, left, box_height, box_width, square)
            return
    ratio = min(max(width / height, ratio_low), ratio_high)
    box_width, box_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    resized_box(image, (height - box_height) // 2, (width - box_width) // 2, box_height, box_width, square)


def each(crop: Crop, split: Split, numbers: Integers, rows: Floats, size: int) -> Pixels:
    """A square of each image: uint8 (n, size, size, channels)."""
    batch = np.empty((len(numbers), size, size, split.channels), dtype=np.uint8)
    for number, row, square in zip(numbers.tolist(), rows, batch, strict=True):
        crop(split.image(number), row, square)
    return batch


def centre(split: Split, numbers: Integers, rows: Floats, size: int, *, fraction: Fraction) -> Pixels:
    """The middle of each image, as evaluation sees it; nothing random. All at once where they need no resizing."""
    if split.common_shape is not None:
        top, left, side = middle(*split.common_shape, fraction)
        if side == size:
            return split.images(numbers)[:, top : top + size, left : left + size]
    return each(lambda image, _, square: centre_crop(image, square, fraction=fraction), split, numbers, rows, size)


def padded(
    split: Split, numbers: Integers, rows: Floats, size: int, *, padding: Annotated[int, Interval(low=0)]
) -> Pixels:
    """A padded_crop of each image; all at once where they are of one size, which is five times as fast."""
    shape = split.common_shape
    if shape is None or min(shape) < size:
        return each(partial(padded_crop, padding=padding), split, numbers, rows, size)
    height, width = (side + 2 * padding for side in shape)
    canvas = np.zeros((len(numbers), height, width, split.channels), dtype=np.uint8)
    canvas[:, padding : height - padding, padding : width - padding] = split.images(numbers)
    windows = np.lib.stride_tricks.as_strided(
        canvas,
        (len(numbers), height - size + 1, width - size + 1, size, size, split.channels),
        (*canvas.strides[:3], *canvas.strides[1:]),
    )
    tops = (rows[:, TOP] * (height - size + 1)).astype(np.int64)
    lefts = (rows[:, LEFT] * (width - size + 1)).astype(np.int64)
    return windows[np.arange(len(numbers)), tops, lefts]


def resized(
    split: Split,
    numbers: Integers,
    rows: Floats,
    size: int,
    *,
    scale_low: Fraction,
    scale_high: Fraction,
    ratio_low: Annotated[float, Interval(low=0, open_low=True)],
    ratio_high: Annotated[float, Interval(low=0, open_low=True)],
) -> Pixels:
    """A resized_crop of each image."""
    crop = partial(resized_crop, scale_low=scale_low, scale_high=scale_high, ratio_low=ratio_low, ratio_high=ratio_high)
    return each(crop, split, numbers, rows, size)


CROPS: dict[str, Callable[..., Pixels]] = {"centre": centre, "padded": padded, "resized": resized}
