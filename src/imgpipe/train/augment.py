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
from imgpipe.model.crops import SMALL, crop_each, fill_from_boxes, fill_squares
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
    """Cut a ``padded_crop`` of each image; all at once where they are small and of one size, which is faster."""
    shape, size = split.common_shape, squares.shape[1]
    if size > SMALL or shape is None or min(shape) < size:
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
    """Cut a random box of each image and resize it: see ``random_boxes``."""
    scale, ratio = (scale_low, scale_high), (ratio_low, ratio_high)
    fill_from_boxes(split, numbers, random_boxes(split.sides(numbers), rows, scale, ratio), squares)


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


def random_boxes(sides: Integers, rows: Floats, scale: tuple[float, float], ratio: tuple[float, float]) -> Integers:
    """Draw a box of each image: torchvision's RandomResizedCrop (Szegedy et al. 2015, section 6).

    It is the first of TRIES that fits into the image, or else the largest in the middle with a ratio within the limits.

    sides: heights and widths of the images, int64 (2, n).
    rows: random numbers of each, float64 (n, CROP_DRAWS or more).
    scale: lowest and highest share of the image's area.
    ratio: lowest and highest width by height, between which it is drawn on a log scale.

    Returns top, left, height and width of each box, int64 (4, n).
    """
    height, width = sides[..., None]
    low, high = (math.log(limit) for limit in ratio)
    areas = (scale[0] + rows[:, AREAS] * (scale[1] - scale[0])) * height * width
    ratios = np.exp(low + rows[:, RATIOS] * (high - low))
    tried = np.rint(np.sqrt([areas / ratios, areas * ratios]))
    fits = np.all((tried > 0) & (tried <= sides[..., None]), axis=0)
    drawn = tried[:, np.arange(len(rows)), fits.argmax(axis=1)]
    corners = rows[:, [TOP, LEFT]].T * (sides - drawn + 1)

    nearest = np.clip(sides[1] / sides[0], *ratio)
    middle = np.minimum(sides, np.rint([sides[1] / nearest, sides[0] * nearest]))
    boxes = np.where(fits.any(axis=1), [*corners, *drawn], [*(sides - middle) // 2, *middle])
    return boxes.astype(np.int64)


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
        flip(squares, np.flatnonzero(rows[:, HORIZONTAL] < section.horizontal_flip), axis=1)
        flip(squares, np.flatnonzero(rows[:, VERTICAL] < section.vertical_flip), axis=0)
        for square, row in zip(squares, rows, strict=True) if each_by_itself else ():
            if section.rotation:
                square[:] = rotated(square, (2 * row[ROTATION] - 1) * section.rotation)
            square[:] = section.policy(square, row[POLICY])
            if row[WHETHER_TO_ERASE] < section.erasing:
                square[:] = erased(square, row[ERASING], colour)

    return augment


def flip(squares: Pixels, numbers: Integers, axis: int) -> None:
    """Flip the squares of these numbers, int64 (n,): left and right for axis 1, top and bottom for axis 0."""
    if squares.shape[1] > SMALL:
        for square in map(squares.__getitem__, numbers.tolist()):
            cv2.flip(square, axis, dst=square)
    elif len(numbers):
        flipped = squares[numbers]
        below_one_another = flipped.reshape(-1, *squares.shape[2:])
        cv2.flip(below_one_another, axis, dst=below_one_another)
        squares[numbers] = flipped if axis == 1 else flipped[::-1]


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
