"""A packed split: its images in one plain .npy file, and a CSV index (docs/data-flow.md)."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imgpipe.common.files import read_table

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

DECODED = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB}


@dataclass(frozen=True)
class Split:
    """Images of one split, in the order of the index.

    content: uint8 (bytes,), memory-mapped; image i is ``lengths[i]`` bytes from ``offsets[i]``: raw, that is pixels
        (height, width, channels), RGB or grey, or a JPEG file.
    offsets, lengths, heights, widths, labels: int64 (images,); a label is the number of a class, in the order of
        ``classes``.
    files: path of each image within the prepared data.
    """

    content: Pixels
    encoding: str
    channels: int
    offsets: Integers
    lengths: Integers
    heights: Integers
    widths: Integers
    labels: Integers
    files: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def image(self, i: int) -> Pixels:
        """Image i, uint8 (height, width, channels); where they are raw, a view of the file."""
        start = int(self.offsets[i])
        content = self.content[start : start + int(self.lengths[i])]
        return unpacked(
            content, int(self.heights[i]), int(self.widths[i]), channels=self.channels, encoding=self.encoding
        )

    @cached_property
    def common_shape(self) -> tuple[int, int] | None:
        """Height and width of all images, where they are raw and of one size."""
        alike = self.encoding == "raw" and len(set(self.heights.tolist())) == len(set(self.widths.tolist())) == 1
        return (int(self.heights[0]), int(self.widths[0])) if alike else None

    def images(self, numbers: Integers) -> Pixels:
        """Copies of some images of one common shape: uint8 (n, height, width, channels)."""
        assert self.common_shape
        return self.content.reshape(len(self), *self.common_shape, self.channels)[numbers]


def unpacked(content: Pixels, height: int, width: int, *, channels: int, encoding: str) -> Pixels:
    """An image, uint8 (height, width, channels), from its packed bytes, uint8 (bytes,); where they are raw, a view."""
    pixels = content if encoding == "raw" else np.asarray(cv2.imdecode(content, DECODED[channels]), np.uint8)
    return pixels.reshape(height, width, channels)


def read_split(folder: Path, *, channels: int, encoding: str) -> Split:
    """The split that ``pack`` wrote to the folder: ``images.npy`` and ``index.csv``."""
    index = read_table(folder / "index.csv")

    def column(name: str) -> Integers:
        return np.array([int(row[name]) for row in index], dtype=np.int64)

    return Split(
        content=np.asarray(np.load(folder / "images.npy", mmap_mode="r")),  # a plain view: numpy.memmap slices slowly
        encoding=encoding,
        channels=channels,
        offsets=column("offset"),
        lengths=column("bytes"),
        heights=column("height"),
        widths=column("width"),
        labels=column("label"),
        files=[row["file"] for row in index],
    )


@dataclass(frozen=True)
class Statistics:
    """What the packed splits have in common; mean and standard deviation of the training split, by channel, in 0-1.

    image_size, enlarge, jpeg_quality: as they were packed.
    """

    classes: list[str]
    image_size: int
    enlarge: bool
    channels: int
    encoding: str
    jpeg_quality: int
    mean: list[float]
    std: list[float]


def read_statistics(path: Path) -> Statistics:
    """What ``pack`` wrote about all splits."""
    return Statistics(**json.loads(path.read_text(encoding="utf-8")))
