"""A square cut out of each picture, for training at random, each a pure function of its row of random numbers.

To add a crop: a function ``(split, numbers, rows, size, *, ...)`` with its parameters as keywords, and a line in CROPS.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated

import cv2
import numpy as np

from imgpipe.packed import Integers, Pixels, Split
from imgpipe.randomness import Floats
from imgpipe.rules import Interval

TRIES = 10
"""Boxes that a random resized crop draws until one fits, as torchvision does."""

TOP, LEFT = 0, 1
AREAS, RATIOS = slice(2, 2 + TRIES), slice(2 + TRIES, 2 + 2 * TRIES)
CROP_DRAWS = RATIOS.stop
"""How many random numbers of a row crops use, and which for what."""

Fraction = Annotated[float, Interval(0, 1, open_low=True)]
Crop = Callable[[Pixels, Floats, int], Pixels]


def resized_box(picture: Pixels, top: int, left: int, height: int, width: int, size: int) -> Pixels:
    """A box of the picture, resized to uint8 (size, size, channels).

    Bilinear; by area, which does not alias, where it shrinks to half or less.
    """
    box = picture[top : top + height, left : left + width]
    if (height, width) == (size, size):
        return box
    shrunk = max(height, width) >= 2 * size
    return _scaled(box, size, size, cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR)


def _scaled(picture: Pixels, height: int, width: int, how: int) -> Pixels:
    scaled = cv2.resize(picture, (width, height), interpolation=how)
    return np.asarray(scaled, np.uint8).reshape(height, width, picture.shape[2])


def window(picture: Pixels, top: int, left: int, size: int) -> Pixels:
    """The square at (top, left), black where it reaches over an edge: uint8 (size, size, channels)."""
    height, width, channels = picture.shape
    if 0 <= top <= height - size and 0 <= left <= width - size:
        return picture[top : top + size, left : left + size]
    square = np.zeros((size, size, channels), dtype=np.uint8)
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    return square


def centre_crop(picture: Pixels, size: int, fraction: float) -> Pixels:
    """The middle, as evaluation sees it: a square with this fraction of the short side, resized to ``size``."""
    height, width = picture.shape[:2]
    side = max(1, round(min(height, width) * fraction))
    return resized_box(picture, (height - side) // 2, (width - side) // 2, side, side, size)


def padded_crop(picture: Pixels, row: Floats, size: int, *, padding: int) -> Pixels:
    """A square of ``size`` from anywhere in the picture with ``padding`` black pixels around it.

    A picture whose short side is shorter than that is first enlarged until it fits.
    """
    short = min(picture.shape[:2])
    if short < size:
        height, width = (round(side * size / short) for side in picture.shape[:2])
        picture = _scaled(picture, height, width, cv2.INTER_LINEAR)
    top, left = (int(row[i] * (picture.shape[i] + 2 * padding - size + 1)) - padding for i in (TOP, LEFT))
    return window(picture, top, left, size)


def resized_crop(
    picture: Pixels, row: Floats, size: int, *, scale_low: float, scale_high: float, ratio_low: float, ratio_high: float
) -> Pixels:
    """A random box, resized to ``size``: torchvision's RandomResizedCrop (Szegedy et al. 2015, section 6).

    scale_low, scale_high: share of the picture's area. ratio_low, ratio_high: width by height, drawn on a log scale.
    """
    height, width = picture.shape[:2]
    areas, ratios = row[AREAS].tolist(), row[RATIOS].tolist()
    low, high = math.log(ratio_low), math.log(ratio_high)
    for share, place in zip(areas, ratios, strict=True):
        area = (scale_low + share * (scale_high - scale_low)) * height * width
        ratio = math.exp(low + place * (high - low))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = int(row[TOP] * (height - box_height + 1)), int(row[LEFT] * (width - box_width + 1))
            return resized_box(picture, top, left, box_height, box_width, size)
    box_width = min(width, round(height * min(max(width / height, ratio_low), ratio_high)))
    box_height = min(height, round(width / min(max(width / height, ratio_low), ratio_high)))
    return resized_box(picture, (height - box_height) // 2, (width - box_width) // 2, box_height, box_width, size)


def each(crop: Crop, split: Split, numbers: Integers, rows: Floats, size: int) -> Pixels:
    """A square of each picture: uint8 (n, size, size, channels)."""
    batch = np.empty((len(numbers), size, size, split.channels), dtype=np.uint8)
    for i, (number, row) in enumerate(zip(numbers.tolist(), rows, strict=True)):
        batch[i] = crop(split.picture(number), row, size)
    return batch


def centre(split: Split, numbers: Integers, rows: Floats, size: int, *, fraction: Fraction) -> Pixels:
    """The middle of each picture, as evaluation sees it; nothing random."""
    return each(lambda picture, _, size: centre_crop(picture, size, fraction), split, numbers, rows, size)


def padded(
    split: Split, numbers: Integers, rows: Floats, size: int, *, padding: Annotated[int, Interval(low=0)]
) -> Pixels:
    """A padded_crop of each picture; all at once where they are of one size, which is five times as fast."""
    shape = split.common_shape
    if shape is None or min(shape) < size:
        return each(partial(padded_crop, padding=padding), split, numbers, rows, size)
    height, width = (side + 2 * padding for side in shape)
    canvas = np.zeros((len(numbers), height, width, split.channels), dtype=np.uint8)
    canvas[:, padding : height - padding, padding : width - padding] = split.pictures(numbers)
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
    """A resized_crop of each picture."""
    crop = partial(resized_crop, scale_low=scale_low, scale_high=scale_high, ratio_low=ratio_low, ratio_high=ratio_high)
    return each(crop, split, numbers, rows, size)


CROPS: dict[str, Callable[..., Pixels]] = {"centre": centre, "padded": padded, "resized": resized}
