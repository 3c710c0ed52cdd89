"""A square cut out of each image, for training at random, each a pure function of its row of random numbers.

To add a crop: a function ``(split, numbers, rows, size, *, ...)`` with its parameters as keywords, and a line in CROPS.
"""

from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np

from imgpipe.common.rules import Interval
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.randomness import Floats

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


def middle(height: int, width: int, fraction: float) -> tuple[int, int, int]:
    """Top, left and side of the square in the middle of an image, with this fraction of its short side."""
    side = max(1, round(min(height, width) * fraction))
    return (height - side) // 2, (width - side) // 2, side


def centre_crop(image: Pixels, square: Pixels, *, fraction: float) -> None:
    """Fills the square with the middle, as evaluation sees it."""
    height, width = image.shape[:2]
    top, left, side = middle(height, width, fraction)
    resized_box(image, top, left, side, side, square)


def each(crop: Crop, split: Split, numbers: Integers, rows: Floats, size: int) -> Pixels:
    """A square of each image: uint8 (n, size, size, channels)."""
    batch = np.empty((len(numbers), size, size, split.channels), dtype=np.uint8)
    for number, row, square in zip(numbers.tolist(), rows, batch, strict=True):
        crop(split.image(number), row, square)
    return batch


def centre_crops(split: Split, numbers: Integers, size: int, *, fraction: float) -> Pixels:
    """Cut the middle of each image, as evaluation sees it: uint8 (n, size, size, channels).

    numbers: which images of the split, int64 (n,).
    size: side of the squares in pixels.
    fraction: how much of an image's short side they show.

    All at once where they need no resizing.
    """
    if split.common_shape is not None:
        top, left, side = middle(*split.common_shape, fraction)
        if side == size:
            return split.images(numbers)[:, top : top + size, left : left + size]
    nothing_random = np.empty((len(numbers), 0))
    return each(
        lambda image, _, square: centre_crop(image, square, fraction=fraction), split, numbers, nothing_random, size
    )
