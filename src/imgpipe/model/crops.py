"""Make a square of each image, as a network sees it: for evaluation its middle or the whole, for training any box."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.randomness import Floats

Crop = Callable[[Pixels, Floats, Pixels], None]
"""Fills a square, uint8 (size, size, channels), from an image and its row of random numbers."""

FITS = ("crop", "pad", "squash")
"""How an image becomes a square: its middle is cut out; or the whole is shown, with black beside it where it is short;
or the whole is shown, its sides made equal."""

SMALL = 64
"""Side in pixels up to which squares are resized and flipped many in one call. In a call for each, Python would take as
long as the pixels, and threads would wait for its lock. Of larger squares copies would take longer than that."""


@dataclass(frozen=True)
class SquareSplit(Split):
    """A split whose images are squares that show the whole of each; crops are then cut out of these."""

    fit: str
    """pad or squash."""

    def image(self, i: int, level: int = 0) -> Pixels:
        """Return image i, or a level of its pyramid, as a square, uint8 (side, side, channels)."""
        image = super().image(i, level)
        height, width, channels = image.shape
        if height == width:
            return image
        if self.fit == "squash":
            return resized(image, min(height, width), min(height, width))
        side = max(height, width)
        square = np.zeros((side, side, channels), np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
        return square

    def sides(self, numbers: Integers) -> Integers:
        """Return heights and widths of some of the squares, int64 (2, n)."""
        sides = super().sides(numbers)
        return np.stack([sides.min(axis=0) if self.fit == "squash" else sides.max(axis=0)] * 2)

    @cached_property
    def common_shape(self) -> tuple[int, int] | None:
        """None: images are made square one by one."""
        return None


def fitted(split: Split, fit: str) -> Split:
    """Return the split with its images as they are cropped in training: as they are, or as squares of the whole."""
    shape = split.common_shape
    if fit == "crop" or (shape is not None and shape[0] == shape[1]):
        return split
    return SquareSplit(**{field.name: getattr(split, field.name) for field in fields(split)}, fit=fit)


def evaluation_squares(split: Split, numbers: Integers, size: int, *, fit: str, fraction: float) -> Pixels:
    """Make a square of each image, as ``fill_squares`` does.

    size: side of the squares in pixels.

    Returns the squares, uint8 (n, size, size, channels).
    """
    squares = np.empty((len(numbers), size, size, split.channels), dtype=np.uint8)
    fill_squares(split, numbers, squares, fit=fit, fraction=fraction)
    return squares


def fill_squares(split: Split, numbers: Integers, squares: Pixels, *, fit: str, fraction: float) -> None:
    """Fill a square with each image, as evaluation sees it: all at once where they need no resizing.

    numbers: which images of the split, int64 (n,).
    squares: uint8 (n, size, size, channels).
    fit, fraction: see ``evaluation_square``.
    """
    size = squares.shape[1]
    if split.common_shape is not None:
        top, left, side = centre_box(*split.common_shape, fraction)
        if side == size and split.common_shape == (size, size):
            np.take(split.together, numbers, axis=0, out=squares, mode="clip")  # the only mode that copies once
            return
        if side == size and fit == "crop":
            squares[:] = split.together[:, top : top + size, left : left + size][numbers]
            return
    nothing_random = np.empty((len(numbers), 0))
    crop_each(
        lambda image, _, square: evaluation_square(image, square, fit=fit, fraction=fraction),
        split,
        numbers,
        nothing_random,
        squares,
    )


def crop_each(crop: Crop, split: Split, numbers: Integers, rows: Floats, squares: Pixels) -> None:
    """Cut a square out of each image by itself.

    numbers: which images of the split, int64 (n,).
    rows: random numbers of each, float64 (n, any).
    squares: to be filled, uint8 (n, size, size, channels).
    """
    for number, row, square in zip(numbers.tolist(), rows, squares, strict=True):
        crop(split.image(number), row, square)


def evaluation_square(image: Pixels, square: Pixels, *, fit: str, fraction: float) -> None:
    """Fill the square, uint8 (size, size, channels), with the image as evaluation sees it.

    fit: crop shows the middle; pad the whole, its long side as long as the square's; squash the whole, made square.
    fraction: how much of the image's short side a crop shows.
    """
    height, width = image.shape[:2]
    size = len(square)
    if fit == "squash":
        square[:] = resized(image, size, size)
    elif fit == "pad":
        scale = size / max(height, width)
        new_height, new_width = (max(1, round(side * scale)) for side in (height, width))
        top, left = (size - new_height) // 2, (size - new_width) // 2
        square[:] = 0
        square[top : top + new_height, left : left + new_width] = resized(image, new_height, new_width)
    else:
        top, left, side = centre_box(height, width, fraction)
        square[:] = resized(image[top : top + side, left : left + side], size, size)


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """Return the image in another size, by Pillow's antialiased bilinear filter, as packing resizes it."""
    if image.shape[:2] == (height, width):
        return image
    levels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.asarray(levels.resize((width, height), Image.Resampling.BILINEAR)).reshape(height, width, image.shape[2])


def centre_box(height: int, width: int, fraction: float) -> tuple[int, int, int]:
    """Return top, left and side of the square in the middle of an image, with this fraction of its short side.

    >>> centre_box(100, 200, 0.5)
    (25, 75, 50)
    """
    side = max(1, round(min(height, width) * fraction))
    return (height - side) // 2, (width - side) // 2, side


def fill_from_boxes(split: Split, numbers: Integers, boxes: Integers, squares: Pixels) -> None:
    """Fill each square with a box of an image, as ``resized_box`` does: all in one call where they are small.

    A box comes from the level of its image's pyramid that ``levels_for`` chooses.

    numbers: which images of the split, int64 (n,).
    boxes: top, left, height and width of each, at level 0, int64 (4, n).
    squares: uint8 (n, size, size, channels).
    """
    size, levels = squares.shape[1], split.form.levels
    if size > SMALL or split.common_shape is None or max(split.common_shape) >= 2 * size or levels > 1:
        chosen = levels_for(boxes[2] * boxes[3], size, levels)
        boxes = boxes >> chosen
        boxes[2:] = boxes[2:].clip(min=1)
        each = zip(numbers.tolist(), chosen.tolist(), boxes.T.tolist(), squares, strict=True)
        for number, level, (top, left, height, width), square in each:
            resized_box(split.image(number, level), top, left, height, width, square)
        return
    tops, lefts, heights, widths = boxes
    edges = (edge.tolist() for edge in (numbers, tops, tops + heights, lefts, lefts + widths))
    images = split.together
    pixels = [images[i, top:bottom, left:right] for i, top, bottom, left, right in zip(*edges, strict=True)]
    as_they_are = cv2.dnn.Image2BlobParams()  # its resizing is cv2.resize's, bilinear
    as_they_are.size, as_they_are.ddepth, as_they_are.datalayout = (size, size), cv2.CV_8U, cv2.DATA_LAYOUT_NHWC
    cv2.dnn.blobFromImagesWithParams(pixels, squares, as_they_are)


def levels_for(areas: Integers, size: int, levels: int) -> Integers:
    """Return the levels of image pyramids that boxes are cut from to be resized to squares.

    It is the first level where a box has at most 2.5 times the square's pixels: squares are then about as sharp as
    antialiased ones; with 2, which is the nearest level, they would be softer, with 4 aliased (docs/loading.md).

    areas: pixels of each box at level 0, int64 (n,).
    size: side of the squares in pixels.
    levels: how many there are.

    Returns int64 (n,).
    """
    limits = [5 * 4**level * size**2 // 2 for level in range(levels - 1)]
    return np.searchsorted(limits, areas).astype(np.int64)


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
