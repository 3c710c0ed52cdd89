"""Augmentations: each a pure function of a picture and its row of random numbers. No random state anywhere.

To add one: a function ``(picture, row, size, *, ...)`` with its parameters as keywords, and a line in AUGMENTATIONS.
"""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from imgpipe.packed import Pixels
from imgpipe.randomness import generator
from imgpipe.rules import Interval

Floats = np.ndarray[Any, np.dtype[np.float64]]

DRAWS = 4
"""How many random numbers a row holds: the most that any augmentation uses."""


def random_rows(count: int, *, seed: int, epoch: int) -> Floats:
    """A row of DRAWS numbers in [0, 1) for each picture of a split: float64 (count, DRAWS).

    A function of its arguments alone, so batches do not depend on threads, processes or where a run was taken up.
    """
    return generator("augmentation", seed, epoch).random((count, DRAWS))


def window(picture: Pixels, top: int, left: int, size: int) -> Pixels:
    """The square at (top, left), black where it reaches over an edge: uint8 (size, size, channels)."""
    height, width, channels = picture.shape
    square = np.zeros((size, size, channels), dtype=np.uint8)
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    return square


def centre_crop(picture: Pixels, size: int) -> Pixels:
    """The square of ``size`` pixels in the middle."""
    return window(picture, (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2, size)


def none(picture: Pixels, row: Floats, size: int) -> Pixels:
    """The middle of the picture, as in evaluation."""
    return centre_crop(picture, size)


def crop(
    picture: Pixels,
    row: Floats,
    size: int,
    *,
    padding: Annotated[int, Interval(low=0)],
    horizontal_flip: Annotated[float, Interval(0, 1)],
) -> Pixels:
    """A square from anywhere in the picture with ``padding`` black pixels around it, mirrored with some probability."""
    top = int(row[0] * (picture.shape[0] + 2 * padding - size + 1)) - padding
    left = int(row[1] * (picture.shape[1] + 2 * padding - size + 1)) - padding
    square = window(picture, top, left, size)
    return square[:, ::-1] if row[2] < horizontal_flip else square


AUGMENTATIONS: dict[str, Callable[..., Pixels]] = {"none": none, "crop": crop}
