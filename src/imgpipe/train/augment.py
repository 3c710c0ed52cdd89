"""Augmentations: each a pure function of an image and its row of random numbers. No random state anywhere.

To add what changes a square: a function ``(image, row, *, ...)`` with its parameters as keywords, and a line in
POLICIES.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import cv2
import numpy as np

from imgpipe.common.rules import Interval
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.crops import centre_crops, each, resized_box
from imgpipe.model.randomness import Floats
from imgpipe.train.policies import (
    COLOUR_JITTER_DRAWS,
    RAND_AUGMENT_DRAWS,
    TRIVIAL_AUGMENT_DRAWS,
    colour_jitter,
    rand_augment,
    trivial_augment,
)

TRIES = 10
"""Boxes that a random resized crop draws until one fits, as torchvision does."""

TOP, LEFT = 0, 1
AREAS, RATIOS = slice(2, 2 + TRIES), slice(2 + TRIES, 2 + 2 * TRIES)
CROP_DRAWS = RATIOS.stop
"""How many random numbers of a row crops use, and which for what."""

Fraction = Annotated[float, Interval(0, 1, open_low=True)]

HORIZONTAL, VERTICAL, ROTATION, WHETHER = range(CROP_DRAWS, CROP_DRAWS + 4)
ERASING = slice(CROP_DRAWS + 4, CROP_DRAWS + 8)
POLICY = slice(ERASING.stop, ERASING.stop + max(COLOUR_JITTER_DRAWS, TRIVIAL_AUGMENT_DRAWS, RAND_AUGMENT_DRAWS))
DRAWS = -(-POLICY.stop // 4) * 4
"""How many random numbers a row holds, and which are for what."""

Augmentation = Callable[[Split, Integers, Floats, int], Pixels]
"""Image numbers (n,) of a split and their rows (n, DRAWS) to squares, uint8 (n, size, size, channels)."""


def window(image: Pixels, top: int, left: int, square: Pixels) -> None:
    """Fills the square with what lies at (top, left), black where it reaches over an edge."""
    height, width = image.shape[:2]
    size = len(square)
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    if (y1 - y0, x1 - x0) != (size, size):
        square[:] = 0
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]


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


def centre(split: Split, numbers: Integers, rows: Floats, size: int, *, fraction: Fraction) -> Pixels:
    """Cut the middle of each image, as evaluation sees it; nothing is random."""
    return centre_crops(split, numbers, size, fraction=fraction)


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


def rotated(image: Pixels, degrees: float) -> Pixels:
    """Turned counter-clockwise about its middle, bilinear, black where nothing comes to lie."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, turn, (width, height)), np.uint8).reshape(image.shape)


def erased(image: Pixels, row: Floats, colour: Sequence[int]) -> Pixels:
    """A random box of it in one colour: torchvision's RandomErasing (Zhong et al. 2017), of 2 to 33 % of the area.

    row: four numbers. The box's ratio of sides is from 0.3 to 3.3; one that does not fit is cut off.
    """
    height, width = image.shape[:2]
    area = (0.02 + row[0] * 0.31) * height * width
    ratio = math.exp(math.log(0.3) + row[1] * math.log(3.3 / 0.3))
    box_height, box_width = (
        min(side, round(math.sqrt(a))) for side, a in ((height, area * ratio), (width, area / ratio))
    )
    top, left = int(row[2] * (height - box_height + 1)), int(row[3] * (width - box_width + 1))
    image = image.copy()
    image[top : top + box_height, left : left + box_width] = colour
    return image


def no_policy(image: Pixels, row: Floats) -> Pixels:
    """As it is."""
    return image


POLICIES: dict[str, Callable[..., Pixels]] = {
    "none": no_policy,
    "colour_jitter": colour_jitter,
    "trivial_augment": trivial_augment,
    "rand_augment": rand_augment,
}


def augmentation(
    *,
    crop: Augmentation,
    horizontal_flip: float,
    vertical_flip: float,
    rotation: float,
    policy: Callable[[Pixels, Floats], Pixels],
    erasing: float,
    colour: Sequence[int],
) -> Augmentation:
    """All steps, in this order, as one function of image numbers and their rows.

    crop: one of CROPS. horizontal_flip, vertical_flip, erasing: probabilities. rotation: up to so many degrees either
    way. policy: one of POLICIES. colour: that erased boxes get, a level for each channel.
    """

    changed = rotation or erasing or policy is not no_policy

    def augmented(split: Split, numbers: Integers, rows: Floats, size: int) -> Pixels:
        batch = crop(split, numbers, rows, size)
        for axis, column, probability in ((1, HORIZONTAL, horizontal_flip), (0, VERTICAL, vertical_flip)):
            for i in np.flatnonzero(rows[:, column] < probability):
                cv2.flip(batch[i], axis, dst=batch[i])
        for place, row in enumerate(rows if changed else ()):
            if rotation:
                batch[place] = rotated(batch[place], (2 * row[ROTATION] - 1) * rotation)
            batch[place] = policy(batch[place], row[POLICY])
            if row[WHETHER] < erasing:
                batch[place] = erased(batch[place], row[ERASING], colour)
        return batch

    return augmented
