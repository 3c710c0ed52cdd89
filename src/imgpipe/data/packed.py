"""Packed splits: the images of each in one plain .npy file, with a CSV index (docs/data-flow.md)."""

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from imgpipe.common.files import read_table, write_text
from imgpipe.common.rules import Interval

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

COLOURS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB}


@dataclass(frozen=True)
class Form:
    """How images are packed. In params.yaml it is the section ``pack``."""

    image_size: Annotated[int, Interval(8, 4096)]
    """Short side of a packed image in pixels; the long side keeps the proportions."""
    enlarge: bool
    """Whether images whose short side is shorter are enlarged to it."""
    channels: Literal[1, 3]
    """3 for RGB, 1 for grey."""
    encoding: Literal["raw", "jpeg"]
    """Raw pixels, which load fastest, or JPEG files, which take less disk."""
    jpeg_quality: Annotated[int, Interval(1, 100)]
    """Of JPEG files."""


@dataclass(frozen=True)
class Split:
    """The images of one split, in the order of its index."""

    form: Form
    content: Pixels
    """All images one after the other, uint8 (bytes,), memory-mapped."""
    offsets: Integers
    """Where in the content each image begins, int64 (images,)."""
    lengths: Integers
    """How many bytes each image takes, int64 (images,)."""
    heights: Integers
    """In pixels, int64 (images,)."""
    widths: Integers
    """In pixels, int64 (images,)."""
    labels: Integers
    """Numbers of the classes, in the order of ``Statistics.classes``, int64 (images,)."""
    files: list[str]
    """Paths of the images within the prepared data."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return self.form.channels

    def image(self, i: int) -> Pixels:
        """Return image i, uint8 (height, width, channels); where images are raw, a view of the file."""
        start = int(self.offsets[i])
        content = self.content[start : start + int(self.lengths[i])]
        return unpacked(content, int(self.heights[i]), int(self.widths[i]), self.form)

    @cached_property
    def common_shape(self) -> tuple[int, int] | None:
        """Height and width of all images, where they are raw and of one size; else None."""
        alike = self.form.encoding == "raw" and len(set(self.heights.tolist())) == len(set(self.widths.tolist())) == 1
        return (int(self.heights[0]), int(self.widths[0])) if alike else None

    def images(self, numbers: Integers) -> Pixels:
        """Return copies of some images, which have one common shape: uint8 (n, height, width, channels)."""
        assert self.common_shape
        return self.content.reshape(len(self), *self.common_shape, self.form.channels)[numbers]


def unpacked(content: Pixels, height: int, width: int, form: Form) -> Pixels:
    """Return an image from its packed bytes.

    content: uint8 (bytes,): where images are raw, pixels in rows from the top left, RGB or grey; or a JPEG file.

    Returns uint8 (height, width, channels), where images are raw a view of the content.
    """
    raw = form.encoding == "raw"
    pixels = content if raw else np.asarray(cv2.imdecode(content, COLOURS[form.channels]), np.uint8)
    return pixels.reshape(height, width, form.channels)


def read_split(folder: Path, form: Form) -> Split:
    """Read a packed split: ``images.npy`` and ``index.csv`` in the folder. The images stay on the disk until used."""
    index = read_table(folder / "index.csv")

    def column(name: str) -> Integers:
        return np.array([int(row[name]) for row in index], dtype=np.int64)

    return Split(
        form=form,
        content=np.asarray(np.load(folder / "images.npy", mmap_mode="r")),  # a plain view: numpy.memmap slices slowly
        offsets=column("offset"),
        lengths=column("bytes"),
        heights=column("height"),
        widths=column("width"),
        labels=column("label"),
        files=[row["file"] for row in index],
    )


@dataclass(frozen=True)
class Statistics:
    """What the packed splits have in common, and what the images of the training split are like."""

    classes: list[str]
    """Names of the classes, in the order of their numbers."""
    form: Form
    mean: list[float]
    """Mean of each channel over all pixels of the training split, on the scale 0-1."""
    std: list[float]
    """Standard deviation of each channel, likewise."""


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write the statistics as flat JSON."""
    flat = {"classes": statistics.classes, **asdict(statistics.form), "mean": statistics.mean, "std": statistics.std}
    write_text(path, json.dumps(flat, indent=2) + "\n")


def read_statistics(path: Path) -> Statistics:
    """Read what ``write_statistics`` wrote."""
    flat = json.loads(path.read_text(encoding="utf-8"))
    form = Form(**{field.name: flat[field.name] for field in fields(Form)})
    return Statistics(classes=flat["classes"], form=form, mean=flat["mean"], std=flat["std"])
