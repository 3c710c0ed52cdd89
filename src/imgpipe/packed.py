"""A packed split: the pixels of its pictures in one plain .npy file, and a CSV index (docs/data-flow.md)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.tables import read_table

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Split:
    """Pictures of one split, in the order of the index.

    pixels: uint8 (bytes,), memory-mapped; picture i starts at ``offsets[i]``: (height, width, channels), RGB or grey.
    offsets, heights, widths, labels: int64 (pictures,); a label is the number of a class, in the order of ``classes``.
    files: path of each picture within the prepared data.
    """

    pixels: Pixels
    channels: int
    offsets: Integers
    heights: Integers
    widths: Integers
    labels: Integers
    files: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, i: int) -> Pixels:
        """View of picture i, uint8 (height, width, channels)."""
        shape = int(self.heights[i]), int(self.widths[i]), self.channels
        start = int(self.offsets[i])
        return self.pixels[start : start + shape[0] * shape[1] * shape[2]].reshape(shape)


def read_split(folder: Path, channels: int) -> Split:
    """The split that ``pack`` wrote to the folder: ``images.npy`` and ``index.csv``."""
    index = read_table(folder / "index.csv")

    def column(name: str) -> Integers:
        return np.array([int(row[name]) for row in index], dtype=np.int64)

    return Split(
        pixels=np.load(folder / "images.npy", mmap_mode="r"),
        channels=channels,
        offsets=column("offset"),
        heights=column("height"),
        widths=column("width"),
        labels=column("label"),
        files=[row["file"] for row in index],
    )


@dataclass(frozen=True)
class Statistics:
    """What the packed splits have in common; mean and standard deviation of the training split, by channel, in 0-1."""

    classes: list[str]
    image_size: int
    channels: int
    mean: list[float]
    std: list[float]


def read_statistics(path: Path) -> Statistics:
    """What ``pack`` wrote about all splits."""
    return Statistics(**json.loads(path.read_text(encoding="utf-8")))
