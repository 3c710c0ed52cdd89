"""Images of the test split with what was said about them."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from imgpipe.data.packed import Pixels, Split
from imgpipe.plot.drawing import BLUE, RED, Row, in_line

T = TypeVar("T")

COLUMNS = 6
CELL, SIDE, TEXT = 1.15, 1.0, 0.4  # inches: width of a cell, of the image in it; height of two lines below
NAME = 17  # letters of a class's name under an image
THUMBNAIL = 128  # pixels of the longest side of an image in the report
LOSSLESS = 64  # pixels of the longest side up to which it is a PNG there, and a JPEG above


@dataclass(frozen=True)
class Example:
    """A test image, un-normalised: uint8 (height, width, channels), as it was packed."""

    file: str
    pixels: Pixels
    actual: str
    predicted: str
    confidence: float

    @property
    def right(self) -> bool:
        return self.actual == self.predicted


def choose_examples(predictions: Sequence[Row], classes: Sequence[str], most: int) -> list[Row]:
    """At most so many predictions, as many of each class, spread evenly over its images in the order of the table.

    Of more classes than that, the first image of as many classes, spread evenly. Nothing is drawn by lot.
    """
    by_class: dict[str, list[Row]] = {name: [] for name in classes}
    for row in predictions:
        by_class[row["actual"]].append(row)
    tested = [rows for rows in by_class.values() if rows]
    each = max(1, most // len(tested))
    return [row for rows in _spread(tested, most) for row in _spread(rows, each)]


def confident_mistakes(predictions: Sequence[Row]) -> list[Row]:
    """Every wrong prediction, the most confident first."""
    wrong = [row for row in predictions if row["actual"] != row["predicted"]]
    return sorted(wrong, key=lambda row: (-float(row["confidence"]), row["file"]))


def _spread(items: Sequence[T], most: int) -> list[T]:
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def with_pixels(rows: Sequence[Row], test: Split) -> list[Example]:
    """The predictions with their images. rows: of metrics/test/predictions.csv. test: the packed split."""
    numbers: Mapping[str, int] = {file: i for i, file in enumerate(test.files)}
    return [
        Example(
            file=row["file"],
            pixels=np.array(test.image(numbers[row["file"]])),
            actual=row["actual"],
            predicted=row["predicted"],
            confidence=float(row["confidence"]),
        )
        for row in rows
    ]


def image_grid(examples: Sequence[Example], nothing: str) -> Figure:
    """The images, each with the guess, and the truth where that is another. A tick and a thin frame mark
    what is right, a cross and a thick, dashed one what is wrong.

    nothing: what the figure says where there are no images.
    """
    if not examples:
        figure = Figure(figsize=(COLUMNS * CELL, 1))
        figure.text(0.5, 0.5, nothing, ha="center", va="center", fontsize=11)
        return figure
    tall = SIDE * min(1, max(example.pixels.shape[0] / example.pixels.shape[1] for example in examples))
    row = tall + TEXT + 0.15
    width, height = COLUMNS * CELL, -(-len(examples) // COLUMNS) * row
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all, in inches: many would take seconds
    axes.set_axis_off()
    for i, example in enumerate(examples):
        line, column = divmod(i, COLUMNS)
        middle, bottom = (column + 0.5) * CELL, height - line * row - tall - 0.08
        _show(axes, example, middle=middle, bottom=bottom, tall=tall)
        said = f"{'✓' if example.right else '✗'} {in_line(example.predicted, NAME - 6)} {example.confidence:.0%}"
        text = said if example.right else f"{said}\nis {in_line(example.actual, NAME - 1)}"
        axes.text(middle, bottom - 0.07, text, ha="center", va="top", fontsize=7.5, linespacing=1.3)
    axes.set(xlim=(0, width), ylim=(0, height))
    return figure


def _show(axes: Axes, example: Example, *, middle: float, bottom: float, tall: float) -> None:
    """The image and its frame, as large as they fit above ``bottom``; all in inches."""
    pixels = example.pixels
    scale = min(SIDE / pixels.shape[1], tall / pixels.shape[0])
    wide, high = pixels.shape[1] * scale, pixels.shape[0] * scale
    left = middle - wide / 2
    axes.imshow(
        pixels[:, :, 0] if pixels.shape[2] == 1 else pixels,
        extent=(left, left + wide, bottom, bottom + high),
        aspect="auto",
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="nearest" if max(pixels.shape) <= LOSSLESS else "antialiased",
    )
    frame = Rectangle(
        (left, bottom),
        wide,
        high,
        fill=False,
        edgecolor=BLUE if example.right else RED,
        linewidth=1 if example.right else 2.5,
        linestyle="-" if example.right else (0, (2, 1)),
    )
    axes.add_patch(frame)


def data_uri(pixels: Pixels) -> str:
    """The image for an HTML page, made smaller where it is large: PNG, or JPEG where it is no drawing of few pixels.

    pixels: uint8 (height, width, channels), RGB or grey.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    kind = "png" if max(image.size) <= LOSSLESS else "jpeg"
    file = io.BytesIO()
    image.save(file, format=kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


MOST = 100
"""Images that one sheet shows."""
LABEL, NAME = 13, 20
"""Characters of a class and of a file's name that fit above and below an image."""


def contact_sheet(squares: Sequence[Pixels], answers: Sequence[tuple[str, float]], names: Sequence[str]) -> Figure:
    """The images in rows, as the network saw them, class and confidence above and the file's name below each.

    squares: uint8 (size, size, channels), at most MOST. answers: a class and its probability for each.
    """
    assert 0 < len(squares) <= MOST
    across = min(len(squares), max(3, math.ceil(math.sqrt(len(squares) * 1.5))))
    down = math.ceil(len(squares) / across)
    figure = Figure(figsize=(1.4 * max(across, 2), 1.75 * down), layout="constrained")
    every_axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for axes in every_axes:
        axes.set_axis_off()
    for axes, square, (answer, sure), name in zip(every_axes, squares, answers, names, strict=False):
        grey = square.shape[2] == 1
        # 0 to 255 is said, or matplotlib would stretch the levels of a grey image to black and white
        axes.imshow(square[:, :, 0] if grey else square, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{_shortened(answer, LABEL)} ({sure:.0%})", fontsize=8, pad=3)
        axes.text(
            0.5, -0.03, _shortened(name, NAME), transform=axes.transAxes, fontsize=6, color="0.4", ha="center", va="top"
        )
    return figure


def _shortened(text: str, most: int) -> str:
    """The text, or its ends where it is longer than so many characters.

    >>> _shortened("0123456789.jpg", 9)
    '0123….jpg'
    """
    end = most // 2
    return text if len(text) <= most else f"{text[: most - end - 1]}…{text[-end:]}"
