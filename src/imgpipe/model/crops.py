"""Cut a square out of each image, as a network sees it: the middle for evaluation, any other box for training."""

from collections.abc import Callable

import cv2
import numpy as np

from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.randomness import Floats

Crop = Callable[[Pixels, Floats, Pixels], None]
"""Fills a square, uint8 (size, size, channels), from an image and its row of random numbers."""


def centre_crops(split: Split, numbers: Integers, size: int, *, fraction: float) -> Pixels:
    """Cut the middle of each image, as evaluation sees it: all at once where they need no resizing.

    numbers: which images of the split, int64 (n,).
    size: side of the squares in pixels.
    fraction: how much of an image's short side they show.

    Returns the squares, uint8 (n, size, size, channels).
    """
    if split.common_shape is not None:
        top, left, side = centre_box(*split.common_shape, fraction)
        if side == size:
            return split.images(numbers)[:, top : top + size, left : left + size]
    nothing_random = np.empty((len(numbers), 0))
    return crop_each(
        lambda image, _, square: centre_crop(image, square, fraction=fraction), split, numbers, nothing_random, size
    )


def crop_each(crop: Crop, split: Split, numbers: Integers, rows: Floats, size: int) -> Pixels:
    """Cut a square out of each image by itself.

    numbers: which images of the split, int64 (n,).
    rows: random numbers of each, float64 (n, any).
    size: side of the squares in pixels.

    Returns the squares, uint8 (n, size, size, channels).
    """
    batch = np.empty((len(numbers), size, size, split.channels), dtype=np.uint8)
    for number, row, square in zip(numbers.tolist(), rows, batch, strict=True):
        crop(split.image(number), row, square)
    return batch


def centre_crop(image: Pixels, square: Pixels, *, fraction: float) -> None:
    """Fill the square, uint8 (size, size, channels), with the middle of the image, as evaluation sees it.

    fraction: how much of the image's short side it shows.
    """
    height, width = image.shape[:2]
    top, left, side = centre_box(height, width, fraction)
    resized_box(image, top, left, side, side, square)


def centre_box(height: int, width: int, fraction: float) -> tuple[int, int, int]:
    """Return top, left and side of the square in the middle of an image, with this fraction of its short side.

    >>> centre_box(100, 200, 0.5)
    (25, 75, 50)
    """
    side = max(1, round(min(height, width) * fraction))
    return (height - side) // 2, (width - side) // 2, side


def resized_box(image: Pixels, top: int, left: int, height: int, width: int, square: Pixels) -> None:
    """Fill the square, uint8 (size, size, channels), with a box of the image.

    It is resized bilinearly, or by area, which does not alias, where it shrinks to half or less.
    """
    box, size = image[top : top + height, left : left + width], len(square)
    if (height, width) == (size, size):
        square[:] = box
    else:
        shrunk = max(height, width) >= 2 * size
        cv2.resize(box, (size, size), dst=square, interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR)
