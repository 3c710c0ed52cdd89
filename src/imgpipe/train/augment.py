"""Change images at random for training: a crop, flips, a rotation, a policy and erasing, in this order.

All of it is a pure function of an image and its row of random numbers (``random_rows``): nothing keeps a random state.
DRAWS lays out a row: which of its numbers is for what.

To add a crop: a function ``(split, numbers, rows, squares, *, ...)`` and a line in CROPS. To add a policy: a function
``(image, row, *, ...)`` and a line in POLICIES. Their annotated keywords are their keys in params.yaml.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import cv2
import numpy as np

from imgpipe.common.rules import Choice, Interval
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.crops import crop_each, fill_squares, resized_box
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
"""How many numbers of a row are for the crop, at its start."""

HORIZONTAL, VERTICAL, ROTATION, WHETHER_TO_ERASE = range(CROP_DRAWS, CROP_DRAWS + 4)
ERASING = slice(CROP_DRAWS + 4, CROP_DRAWS + 8)
POLICY = slice(ERASING.stop, ERASING.stop + max(COLOUR_JITTER_DRAWS, TRIVIAL_AUGMENT_DRAWS, RAND_AUGMENT_DRAWS))
DRAWS = -(-POLICY.stop // 4) * 4
"""How many numbers a row holds: all of these, up to a multiple of 4."""

Fraction = Annotated[float, Interval(0, 1, open_low=True)]
Probability = Annotated[float, Interval(0, 1)]
Augmentation = Callable[[Split, Integers, Floats, Pixels], None]
"""Fills squares, its last argument, uint8 (n, size, size, channels), from a split, the numbers of n images, int64 (n,),
and their rows of random numbers, float64 (n, DRAWS)."""


def centre(split: Split, numbers: Integers, rows: Floats, squares: Pixels, *, fraction: Fraction) -> None:
    """Cut the middle of each image, as evaluation sees it; nothing is random."""
    fill_squares(split, numbers, squares, fit="crop", fraction=fraction)


def padded(
    split: Split, numbers: Integers, rows: Floats, squares: Pixels, *, padding: Annotated[int, Interval(low=0)]
) -> None:
    """Cut a ``padded_crop`` of each image; all at once where they are of one size, which is five times as fast."""
    shape, size = split.common_shape, squares.shape[1]
    if shape is None or min(shape) < size:
        crop_each(partial(padded_crop, padding=padding), split, numbers, rows, squares)
        return
    height, width = (side + 2 * padding for side in shape)
    canvas = np.zeros((len(numbers), height, width, split.channels), dtype=np.uint8)
    canvas[:, padding : height - padding, padding : width - padding] = split.together.take(numbers, axis=0)
    windows = np.lib.stride_tricks.as_strided(
        canvas,
        (len(numbers), height - size + 1, width - size + 1, size, size, split.channels),
        (*canvas.strides[:3], *canvas.strides[1:]),
    )
    tops = (rows[:, TOP] * (height - size + 1)).astype(np.int64)
    lefts = (rows[:, LEFT] * (width - size + 1)).astype(np.int64)
    squares[:] = windows[np.arange(len(numbers)), tops, lefts]


def resized(
    split: Split,
    numbers: Integers,
    rows: Floats,
    squares: Pixels,
    *,
    scale_low: Fraction,
    scale_high: Fraction,
    ratio_low: Annotated[float, Interval(low=0, open_low=True)],
    ratio_high: Annotated[float, Interval(low=0, open_low=True)],
) -> None:
    """Cut a ``resized_crop`` of each image."""
    crop = partial(resized_crop, scale_low=scale_low, scale_high=scale_high, ratio_low=ratio_low, ratio_high=ratio_high)
    crop_each(crop, split, numbers, rows, squares)


CROPS: dict[str, Callable[..., None]] = {"centre": centre, "padded": padded, "resized": resized}


def padded_crop(image: Pixels, row: Floats, square: Pixels, *, padding: int) -> None:
    """Fill the square from anywhere in the image with ``padding`` black pixels around it.

    An image whose short side is shorter than the square is first enlarged until it fits.
    """
    short, size = min(image.shape[:2]), len(square)
    if short < size:
        height, width = (round(side * size / short) for side in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height)), np.uint8).reshape(height, width, image.shape[2])
    top, left = (int(row[i] * (image.shape[i] + 2 * padding - size + 1)) - padding for i in (TOP, LEFT))
    window(image, top, left, square)


def window(image: Pixels, top: int, left: int, square: Pixels) -> None:
    """Fill the square with what lies at (top, left), black where it reaches over an edge."""
    height, width = image.shape[:2]
    size = len(square)
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    if (y1 - y0, x1 - x0) != (size, size):
        square[:] = 0
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]


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
    """Fill the square with a random box: torchvision's RandomResizedCrop (Szegedy et al. 2015, section 6).

    scale_low, scale_high: share of the image's area.
    ratio_low, ratio_high: width by height, drawn on a log scale.
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


def no_policy(image: Pixels, row: Floats) -> Pixels:
    """Return the image as it is."""
    return image


POLICIES: dict[str, Callable[..., Pixels]] = {
    "none": no_policy,
    "colour_jitter": colour_jitter,
    "trivial_augment": trivial_augment,
    "rand_augment": rand_augment,
}


@dataclass(frozen=True)
class Augment:
    """The section ``train.augment`` of params.yaml."""

    crop: Annotated[Augmentation, Choice(CROPS)]
    horizontal_flip: Probability
    vertical_flip: Probability
    rotation: Annotated[float, Interval(0, 180)]
    """Degrees either way at most."""
    policy: Annotated[Callable[[Pixels, Floats], Pixels], Choice(POLICIES)]
    erasing: Probability
    """Of a box of the image that is painted over."""


def augmentation(section: Augment, colour: Sequence[int]) -> Augmentation:
    """Make one function of all steps, in their order.

    colour: level of each channel in the boxes that are erased.
    """
    each_by_itself = section.rotation or section.erasing or section.policy is not no_policy

    def augment(split: Split, numbers: Integers, rows: Floats, squares: Pixels) -> None:
        section.crop(split, numbers, rows, squares)
        flips = ((1, HORIZONTAL, section.horizontal_flip), (0, VERTICAL, section.vertical_flip))
        for axis, column, probability in flips:
            for i in np.flatnonzero(rows[:, column] < probability).tolist():
                square = squares[i]
                cv2.flip(square, axis, dst=square)
        for square, row in zip(squares, rows, strict=True) if each_by_itself else ():
            if section.rotation:
                square[:] = rotated(square, (2 * row[ROTATION] - 1) * section.rotation)
            square[:] = section.policy(square, row[POLICY])
            if row[WHETHER_TO_ERASE] < section.erasing:
                square[:] = erased(square, row[ERASING], colour)

    return augment


def rotated(image: Pixels, degrees: float) -> Pixels:
    """Turn the image counter-clockwise about its middle, bilinearly, black where nothing comes to lie."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, turn, (width, height)), np.uint8).reshape(image.shape)


def erased(image: Pixels, row: Floats, colour: Sequence[int]) -> Pixels:
    """Paint over a random box of 2 to 33 % of the image's area: torchvision's RandomErasing (Zhong et al. 2017).

    row: four numbers, for the area, the ratio of the box's sides (0.3 to 3.3), its top and its left.
    colour: level of each channel in the box.

    Returns another image. A box that does not fit is cut off.
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
