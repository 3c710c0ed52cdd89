"""Show images with what was predicted for them, in the report's galleries and on the sheet of ``imgpipe predict``."""

import base64
import io
import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from imgpipe.data.packed import Pixels, Split
from imgpipe.model.crops import evaluation_square
from imgpipe.plot.drawing import BLUE, RED, in_line, short
from imgpipe.plot.results import Row

T = TypeVar("T")

THUMBNAIL = 128  # pixels of the longest side of an image in the report
TELLING = 3  # images at its top
SEEN = 224  # pixels of the longest side of an image at the top, and of one with its heatmap
LOSSLESS = 64  # pixels of the longest side up to which it is a PNG there, and a JPEG above
HEAT = (255, 106, 0)
"""The colour, RGB, of where a heatmap is greatest; it covers 70 % there."""

# Of a gallery: cells in a row; inches of a cell's width, of the side of the image in it, and of the text's height.
GALLERY_COLUMNS, GALLERY_CELL, GALLERY_SIDE, GALLERY_TEXT = 6, 1.15, 1.0, 0.4
GALLERY_NAME = 17  # letters of a class's name under an image

# Of a sheet: images at most; inches of a cell's width and height, and of the side of the image in it.
SHEET_MOST, SHEET_WIDTH, SHEET_HEIGHT, SHEET_SIDE = 100, 1.4, 1.75, 1.32
SHEET_CLASS, SHEET_NAME = 13, 20  # letters of a class's name above an image, and of a file's name below it


@dataclass(frozen=True)
class Example:
    """A test image and the prediction for it."""

    file: str

    pixels: Pixels
    """The square that the network saw, uint8 (size, size, channels)."""

    actual: str
    predicted: str
    confidence: float

    heat: Pixels | None
    """What spoke for the predicted class, and where: uint8 (side, side); None where evaluation made no heatmap."""

    @property
    def right(self) -> bool:
        """Whether the true class was predicted."""
        return self.actual == self.predicted


def choose_examples(predictions: Sequence[Row], classes: Sequence[str], most: int) -> list[Row]:
    """Choose at most so many predictions, as many of each class, spread evenly over its images in the table's order.

    Of more classes than that, the first image of as many classes, spread evenly. Nothing is drawn by lot.

    predictions: rows of metrics/test/predictions.csv.
    classes: all names, in their order.
    """
    by_class: dict[str, list[Row]] = {name: [] for name in classes}
    for row in predictions:
        by_class[row["actual"]].append(row)
    tested = [rows for rows in by_class.values() if rows]
    each = max(1, most // len(tested))
    return [row for rows in _spread(tested, most) for row in _spread(rows, each)]


def confident_mistakes(predictions: Sequence[Row]) -> list[Row]:
    """Return every wrong prediction, the most confident first."""
    wrong = [row for row in predictions if row["actual"] != row["predicted"]]
    return sorted(wrong, key=lambda row: (-float(row["confidence"]), row["file"]))


def _spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, spread evenly."""
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def telling(predictions: Sequence[Row], heatmaps: Container[str]) -> list[Row]:
    """Choose what the report begins with: of the mistakes that have heatmaps, the surest of each frequent confusion.

    Where there are fewer confusions than images to choose, other mistakes follow; where no mistake has a heatmap, it is
    of all. Where nothing is wrong, it is those right answers that were the least sure.

    heatmaps: their files.
    """
    mistakes = confident_mistakes(predictions)
    if not mistakes:
        return sorted(predictions, key=lambda row: (float(row["confidence"]), row["file"]))[:TELLING]
    times = Counter((row["actual"], row["predicted"]) for row in mistakes)
    surest = [row for row in mistakes if row["file"] in heatmaps] or mistakes
    first = {(row["actual"], row["predicted"]): row["file"] for row in reversed(surest)}

    def place(row: Row) -> tuple[bool, int]:
        pair = (row["actual"], row["predicted"])
        return row["file"] != first[pair], -times[pair]

    return sorted(surest, key=place)[:TELLING]


def load_examples(
    predictions: Sequence[Row], test: Split, model: Mapping[str, Any], heatmaps: Mapping[str, Pixels]
) -> list[Example]:
    """Load the images that the predictions are about, as the network saw them.

    predictions: rows of metrics/test/predictions.csv.
    test: the packed test split.
    model: the section of params.yaml.
    heatmaps: by file.
    """
    numbers: Mapping[str, int] = {file: i for i, file in enumerate(test.files)}
    examples = []
    for row in predictions:
        square = np.empty((model["image_size"], model["image_size"], test.channels), np.uint8)
        image = test.image(numbers[row["file"]])
        evaluation_square(image, square, fit=model["fit"], fraction=model["crop_fraction"])
        examples.append(
            Example(
                file=row["file"],
                pixels=square,
                actual=row["actual"],
                predicted=row["predicted"],
                confidence=float(row["confidence"]),
                heat=heatmaps.get(row["file"]),
            )
        )
    return examples


def gallery(examples: Sequence[Example], nothing: str) -> Figure:
    """Draw the images, each with the predicted class below it, and the true one where that is another.

    A tick and a thin frame mark what is right, a cross and a thick, dashed frame what is wrong.

    nothing: what the figure says where there are no images.
    """
    if not examples:
        figure = Figure(figsize=(GALLERY_COLUMNS * GALLERY_CELL, 1))
        figure.text(0.5, 0.5, nothing, ha="center", va="center", fontsize=11)
        return figure
    tall = GALLERY_SIDE * min(1, max(example.pixels.shape[0] / example.pixels.shape[1] for example in examples))
    figure, axes, cells = _cells(
        len(examples), columns=GALLERY_COLUMNS, width=GALLERY_CELL, height=tall + GALLERY_TEXT + 0.15
    )
    for example, (middle, top) in zip(examples, cells, strict=True):
        bottom = top - tall - 0.08
        frame = _show(axes, example.pixels, middle=middle, bottom=bottom, most_width=GALLERY_SIDE, most_height=tall)
        frame.set(
            edgecolor=BLUE if example.right else RED,
            linewidth=1 if example.right else 2.5,
            linestyle="-" if example.right else (0, (2, 1)),
        )
        axes.add_patch(frame)
        guess = (
            f"{'✓' if example.right else '✗'} {in_line(example.predicted, GALLERY_NAME - 6)} {example.confidence:.0%}"
        )
        text = guess if example.right else f"{guess}\nis {in_line(example.actual, GALLERY_NAME - 1)}"
        axes.text(middle, bottom - 0.07, text, ha="center", va="top", fontsize=7.5, linespacing=1.3)
    return figure


def contact_sheet(
    squares: Sequence[Pixels], answers: Sequence[Sequence[tuple[str, float]]], names: Sequence[str], nothing: str
) -> Figure:
    """Draw images as the network saw them, class and confidence above and the file's name below each.

    squares: uint8 (size, size, channels), at most SHEET_MOST.
    answers: classes and their probabilities for each; of several the first is shown, and how many more there are.
    names: of the files.
    nothing: what stands above an image that has no class.
    """
    assert 0 < len(squares) <= SHEET_MOST
    across = min(len(squares), max(3, math.ceil(math.sqrt(len(squares) * 1.5))))
    figure, axes, cells = _cells(len(squares), columns=across, width=SHEET_WIDTH, height=SHEET_HEIGHT)
    figure.suppressComposite = True  # in an SVG each image is one of its own
    for square, answer, name, (middle, top) in zip(squares, answers, names, cells, strict=True):
        bottom = top - 0.22 - SHEET_SIDE
        _show(axes, square, middle=middle, bottom=bottom, most_width=SHEET_SIDE, most_height=SHEET_SIDE)
        said = _likeliest(answer) if answer else nothing
        axes.text(middle, bottom + SHEET_SIDE + 0.04, said, ha="center", va="bottom", fontsize=8)
        axes.text(middle, bottom - 0.04, short(name, SHEET_NAME), ha="center", va="top", fontsize=6, color="0.4")
    return figure


def _likeliest(answer: Sequence[tuple[str, float]]) -> str:
    """Return the first class and its probability, and how many more there are.

    >>> _likeliest([("cat", 0.5), ("dog", 0.3), ("fox", 0.2)])
    'cat (50%) +2'
    """
    (name, confidence), *others = answer
    more = f" +{len(others)}" if others else ""
    return f"{short(name, SHEET_CLASS - len(more))} ({confidence:.0%}){more}"


def _cells(count: int, *, columns: int, width: float, height: float) -> tuple[Figure, Axes, list[tuple[float, float]]]:
    """Make a figure of so many cells in rows; width and height of a cell are in inches.

    Returns the figure, its axes, whose units are inches, and the middle and the top of each cell. There is one pair of
    axes for all cells: a pair for each would take seconds.
    """
    wide, high = columns * width, -(-count // columns) * height
    figure = Figure(figsize=(wide, high))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, wide), ylim=(0, high))
    return figure, axes, [((i % columns + 0.5) * width, high - i // columns * height) for i in range(count)]


def _show(
    axes: Axes, pixels: Pixels, *, middle: float, bottom: float, most_width: float, most_height: float
) -> Rectangle:
    """Draw the image above ``bottom``, as large as it fits, and return its outline; all lengths are in inches."""
    scale = min(most_width / pixels.shape[1], most_height / pixels.shape[0])
    wide, high = pixels.shape[1] * scale, pixels.shape[0] * scale
    left = middle - wide / 2
    axes.imshow(
        _without_grey_axis(pixels),
        extent=(left, left + wide, bottom, bottom + high),
        aspect="auto",
        cmap="gray",
        vmin=0,  # or matplotlib would stretch the levels of a grey image to black and white
        vmax=255,
        interpolation="nearest" if max(pixels.shape) <= LOSSLESS else "antialiased",
    )
    return Rectangle((left, bottom), wide, high, fill=False)


def data_uri(pixels: Pixels, longest: int = THUMBNAIL) -> str:
    """Return the image for an HTML page, made smaller where it is large: a PNG, or a JPEG where it has many pixels.

    pixels: uint8 (height, width, channels), RGB or grey.
    longest: pixels of the longest side at most.
    """
    image = Image.fromarray(_without_grey_axis(pixels))
    image.thumbnail((longest, longest))
    return _embedded(image)


def heatmap_uri(example: Example) -> str:
    """Return the example's image for an HTML page in grey, with its heatmap over it."""
    assert example.heat is not None
    grey = Image.fromarray(_without_grey_axis(example.pixels)).convert("L").convert("RGB")
    grey.thumbnail((SEEN, SEEN))
    if max(grey.size) < THUMBNAIL:  # or the heatmap would have steps, too
        grey = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.NEAREST)
    heat = Image.fromarray(example.heat).resize(grey.size, Image.Resampling.BICUBIC)
    return _embedded(
        Image.composite(Image.new("RGB", grey.size, HEAT), grey, heat.point(lambda level: level * 7 // 10))
    )


def _embedded(image: Image.Image) -> str:
    """Return the image as a data URI."""
    kind = "png" if max(image.size) <= LOSSLESS else "jpeg"
    file = io.BytesIO()
    image.save(file, format=kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _without_grey_axis(pixels: Pixels) -> Pixels:
    """Return a grey image as (height, width), which matplotlib and Pillow want, and an RGB image as it is."""
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
