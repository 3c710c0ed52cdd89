"""Augmentations: each a pure function of an image and its row of random numbers. No random state anywhere.

To add what changes a square: a function ``(image, row, *, ...)`` with its parameters as keywords, and a line in
POLICIES.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.crops import CROP_DRAWS
from imgpipe.model.randomness import Floats
from imgpipe.train.colours import COLOUR_JITTER_DRAWS, colour_jitter
from imgpipe.train.policies import RAND_AUGMENT_DRAWS, TRIVIAL_AUGMENT_DRAWS, rand_augment, trivial_augment

HORIZONTAL, VERTICAL, ROTATION, WHETHER = range(CROP_DRAWS, CROP_DRAWS + 4)
ERASING = slice(CROP_DRAWS + 4, CROP_DRAWS + 8)
POLICY = slice(ERASING.stop, ERASING.stop + max(COLOUR_JITTER_DRAWS, TRIVIAL_AUGMENT_DRAWS, RAND_AUGMENT_DRAWS))
DRAWS = -(-POLICY.stop // 4) * 4
"""How many random numbers a row holds, and which are for what."""

Augmentation = Callable[[Split, Integers, Floats, int], Pixels]
"""Image numbers (n,) of a split and their rows (n, DRAWS) to squares, uint8 (n, size, size, channels)."""


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
