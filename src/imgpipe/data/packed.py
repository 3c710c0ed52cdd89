"""Packed splits: the images of each in one plain .npy file, with a CSV index (docs/data-flow.md)."""

import json
import math
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import cv2
import numpy as np

from imgpipe.common.errors import InputError, one_line
from imgpipe.common.files import write_text
from imgpipe.common.rules import Interval
from imgpipe.data.parallel import by_threads, cores

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Side = TypeVar("Side", int, Integers)

INDEX = ("file", "label", "offset", "bytes", "height", "width", "crc32")
"""The columns of index.csv."""
ROW = np.dtype([("file", object), *((name, np.int64) for name in INDEX[1:])])
"""A row of it, read."""
INDEX_FILE = "index.csv"
LONGEST = 1 << 16
"""Pixels that no side of a packed image has."""
AT_ONCE = 1024
"""Images that a thread checks, one part after the other."""
COLOURS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB}
MOST_LEVELS = 4
"""Of a pyramid: libjpeg decodes down to an eighth of the size."""
REDUCED = (0, cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_GRAYSCALE_8)
"""Bits of OpenCV's flags by which a JPEG is decoded at a level's size; those for colour are the same with colour's."""


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
    levels: Annotated[int, Interval(1, MOST_LEVELS)]
    """Of an image pyramid: in how many sizes an image can be had, each half of the one before. Raw ones are stored."""


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
    checksums: Integers
    """``checksum`` of each image, int64 (images,)."""
    files: list[str]
    """Paths of the images within the prepared data."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return self.form.channels

    def image(self, i: int, level: int = 0) -> Pixels:
        """Return image i, uint8 (height, width, channels); where images are raw, a view of the file.

        level: of its pyramid, from 0, the whole size, to ``form.levels - 1``.
        """
        start = int(self.offsets[i])
        content = self.content[start : start + int(self.lengths[i])]
        return unpacked(content, int(self.heights[i]), int(self.widths[i]), self.form, level)

    def sides(self, numbers: Integers) -> Integers:
        """Return heights and widths of some images, int64 (2, n)."""
        return np.stack([self.heights[numbers], self.widths[numbers]])

    @cached_property
    def common_shape(self) -> tuple[int, int] | None:
        """Height and width of all images, where they are raw and of one size; else None."""
        alike = self.form.encoding == "raw" and len(set(self.heights.tolist())) == len(set(self.widths.tolist())) == 1
        return (int(self.heights[0]), int(self.widths[0])) if alike else None

    @property
    def together(self) -> Pixels:
        """All images, which have one common shape, as a view of the file: uint8 (images, height, width, channels)."""
        assert self.common_shape
        height, width = self.common_shape
        each = self.content.reshape(len(self), -1)[:, : height * width * self.channels]
        return each.reshape(len(self), height, width, self.channels)


def unpacked(content: Pixels, height: int, width: int, form: Form, level: int = 0) -> Pixels:
    """Return an image from its packed bytes.

    content: uint8 (bytes,): where images are raw, pixels in rows from the top left, RGB or grey, level after level; or
        a JPEG file, which libjpeg decodes at half its size in less time than at the whole.
    height, width: at level 0.
    level: of its pyramid.

    Returns uint8 (height, width, channels), where images are raw a view of the content.
    """
    shape = *at_level(height, width, level), form.channels
    if form.encoding == "jpeg":
        return np.asarray(cv2.imdecode(content, COLOURS[form.channels] | REDUCED[level]), np.uint8).reshape(shape)
    start = pixels_of(height, width, level) * form.channels
    return content[start : start + math.prod(shape)].reshape(shape)


def at_level(height: Side, width: Side, level: int) -> tuple[Side, Side]:
    """Return height and width at a level of an image's pyramid.

    >>> at_level(100, 133, 1)
    (50, 67)
    """
    return -(-height >> level), -(-width >> level)


def pixels_of(height: Side, width: Side, levels: int) -> Side:
    """Return how many pixels the first levels of an image's pyramid have, or those of many images.

    >>> pixels_of(100, 133, 2)
    16650
    """
    pixels = 0 * height  # of one image or of each of many
    for level in range(levels):
        its_height, its_width = at_level(height, width, level)
        pixels = pixels + its_height * its_width
    return pixels


def read_split(folder: Path, form: Form) -> Split:
    """Read a packed split: ``images.npy`` and ``index.csv`` in the folder. The images stay on the disk until used.

    Raises InputError where these are no such files, or do not fit each other; ``check_content`` reads the images.
    """
    with _explained(folder / INDEX_FILE):
        rows = _read_index(folder / INDEX_FILE)
    with _explained(folder / "images.npy"):
        mapped = np.lib.format.open_memmap(folder / "images.npy", mode="r")  # which unpickles nothing
    split = Split(
        form=form,
        content=np.asarray(mapped),  # a plain view: numpy.memmap slices slowly
        offsets=rows["offset"].copy(),
        lengths=rows["bytes"].copy(),
        heights=rows["height"].copy(),
        widths=rows["width"].copy(),
        labels=rows["label"].copy(),
        checksums=rows["crc32"].copy(),
        files=rows["file"].tolist(),
    )
    if problem := _misfit(split):
        raise _broken(folder, problem)
    return split


def _read_index(path: Path) -> np.ndarray[Any, Any]:
    """Return the rows of an index, of the type ROW."""
    with path.open(encoding="utf-8", newline="") as file, warnings.catch_warnings(action="error"):  # without rows
        if file.readline() != f"{','.join(INDEX)}\n":
            raise ValueError(f"its columns are not {', '.join(INDEX)}")
        return np.loadtxt(file, ROW, comments=None, delimiter=",", quotechar='"', ndmin=1)


def _misfit(split: Split) -> str:
    """Return what in a split does not fit the rest of it; nothing where all does."""
    content, lengths = split.content, split.lengths
    if content.dtype != np.uint8 or content.ndim != 1:
        return f"images.npy is {content.dtype} {content.shape}, and not uint8 of one dimension"
    if not len(split) or lengths.min() < 1 or split.labels.min() < 0:
        return "index.csv has no images, or empty ones, or labels below 0"
    if lengths.max() > len(content) or not np.array_equal(split.offsets, np.cumsum(lengths) - lengths):
        return "the images of index.csv do not follow one another"
    if (total := int(lengths.sum())) != len(content):
        return f"images.npy has {len(content):,} bytes, and the images of index.csv {total:,}"
    sides = np.stack([split.heights, split.widths])
    if sides.min() < 1 or sides.max() >= LONGEST:
        return "index.csv has images without pixels, or too large to have been packed"
    all_pixels = pixels_of(split.heights, split.widths, split.form.levels)
    if split.form.encoding == "raw" and not np.array_equal(all_pixels * split.channels, lengths):
        return "the bytes of an image of index.csv are not as many as its pixels need"
    return ""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise InputError in place of what is raised where a file of the packed splits can't be read."""
    try:
        yield
    except Exception as error:  # a damaged header makes numpy raise almost anything, and so do damaged tables
        raise _broken(path, one_line(error, named=True)) from None


def _broken(path: Path, problem: str) -> InputError:
    """Make the error for packed files that are damaged, and so is what DVC's cache has of them where it has links."""
    return InputError(
        f"{path} is not as pack wrote it ({problem}); where dvc checkout does not help, remove it from DVC's cache, "
        "for f in data/packed/*/*; do find .dvc/cache -samefile $f -delete; done, and make it anew: "
        "dvc repro --force --single-item pack"
    )


def checksum(
    content: bytes | memoryview, file: str, label: int, offset: int, length: int, height: int, width: int
) -> int:
    """Return the CRC-32 of a packed image and of what the index says of it.

    content: its bytes.
    file, label, offset, length, height, width: the cells of its row in the index, but for the last.
    """
    return zlib.crc32(content, zlib.crc32(f"{file},{label},{offset},{length},{height},{width}".encode()))


def check_content(split: Split, folder: Path, *, part: int, parts: int) -> None:
    """Check that images and index are byte for byte as pack wrote them, which DVC does not where a file's time is old.

    folder: where the split was read.
    part, parts: the number of the part to check, from 0, and how many there are; a process of this machine each.

    Raises InputError where an image is another.
    """
    columns = (split.labels, split.offsets, split.lengths, split.heights, split.widths, split.checksums)
    content = split.content.data

    def check(run: slice) -> None:
        for file, label, offset, length, height, width, expected in zip(
            split.files[run], *(column[run].tolist() for column in columns), strict=True
        ):
            if checksum(content[offset : offset + length], file, label, offset, length, height, width) != expected:
                raise _broken(folder, f"image {file} is another")

    start, end = (len(split) * edge // parts for edge in (part, part + 1))
    runs = (slice(low, min(low + AT_ONCE, end)) for low in range(start, end, AT_ONCE))
    list(by_threads(check, runs, threads=max(cores() // parts, 1)))


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
    """Read what ``write_statistics`` wrote. Raises InputError where it is something else."""
    with _explained(path):
        flat = json.loads(path.read_text(encoding="utf-8"))
        form = Form(**{field.name: flat[field.name] for field in fields(Form)})
        statistics = Statistics(classes=flat["classes"], form=form, mean=flat["mean"], std=flat["std"])
        numbers = np.array([statistics.mean, statistics.std], dtype=np.float64)
    if numbers.shape != (2, form.channels) or not np.isfinite(numbers).all():
        raise _broken(path, f"mean and std are not {form.channels} numbers")
    return statistics


def read_packed(folder: Path, names: Iterable[str]) -> tuple[Statistics, dict[str, Split]]:
    """Read the statistics, and the splits of these names.

    Raises InputError as ``read_statistics`` and ``read_split`` do, and where a split has labels of no class.
    """
    statistics = read_statistics(folder / "statistics.json")
    splits = {name: read_split(folder / name, statistics.form) for name in names}
    for name, split in splits.items():
        if (highest := int(split.labels.max())) >= len(statistics.classes):
            raise _broken(
                folder / name, f"index.csv has label {highest}, and there are {len(statistics.classes)} classes"
            )
    return statistics, splits
