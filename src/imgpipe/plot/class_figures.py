"""Draw the figures with a row for each class: confusions, scores, counts."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from imgpipe.plot.drawing import BLACK, BLUE, GREEN, ORANGE, RED, SKY, WIDTH, legend_above, short
from imgpipe.plot.results import Row

MOST_COUNTED = 30  # classes up to which a confusion matrix has its counts written into it
MOST_ROWS = 120  # classes that a figure names, one a line
NAME = 22  # letters of a class's name in a figure


def confusion_matrix(predictions: Sequence[Row], classes: Sequence[str]) -> Figure:
    """Draw how many images of each class were taken for which, shaded by the share of the actual class.

    predictions: rows of metrics/test/predictions.csv.
    classes: all names, in their order.
    """
    matrix = _confusions(predictions, classes)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    counted, named = len(classes) <= MOST_COUNTED, len(classes) <= MOST_ROWS
    names = [short(name, NAME) for name in classes]
    letters = max(map(len, names))
    size = 8 if counted else 6
    cell = (0.32 if counted else 0.1) if named else 12 / len(classes)
    labels = size / 72 * 0.65 * letters if named else 0.2
    side = max(3.2, cell * len(classes))
    figure = Figure(figsize=(max(WIDTH, side + labels + 0.5), side + labels + 1.3), layout="constrained")
    axes = figure.subplots()
    rooted = PowerNorm(0.5, vmin=0, vmax=1)  # so that one image among many is seen, too
    image = axes.imshow(share, cmap="Blues", norm=rooted, interpolation="nearest")
    bar = figure.colorbar(
        image,
        ax=axes,
        location="top",
        shrink=3 / side,
        aspect=25,
        fraction=0.02,
        pad=0.01,
        ticks=(0, 0.1, 0.25, 0.5, 1),
        label="share of the actual class",
    )
    bar.ax.xaxis.set_major_formatter(PercentFormatter(1))
    bar.outline.set_visible(False)
    axes.set(xlabel="predicted", ylabel="actual")
    axes.spines[:].set_visible(False)
    if named:
        axes.set_xticks(range(len(classes)), names, rotation=90 if labels > side / len(classes) else 0, fontsize=size)
        axes.set_yticks(range(len(classes)), names, fontsize=size)
        edges = np.arange(len(classes) + 1) - 0.5
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color="0.85", linewidth=0.4)
        axes.tick_params(which="minor", length=0)
    if counted:
        for (y, x), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if rooted(share[y, x]) > 0.6 else "black"
                fitting = min(size, 26 / len(str(count)))
                axes.text(x, y, str(count), ha="center", va="center", color=colour, fontsize=fitting)
    return figure


def _confusions(predictions: Sequence[Row], classes: Sequence[str]) -> NDArray[np.int64]:
    """Count the images by actual (rows) and predicted class (columns)."""
    numbers = {name: i for i, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for row in predictions:
        matrix[numbers[row["actual"]], numbers[row["predicted"]]] += 1
    return matrix


def class_scores(scores: Sequence[Row]) -> Figure:
    """Draw the F1 of each class as a bar, precision and recall as marks on it, and its test images; the worst on top.

    A class without test images has no scores, and says so.

    scores: rows of metrics/test/classes.csv.
    """
    tested = sorted((row for row in scores if int(row["support"])), key=lambda row: float(row["f1"]))
    untested = [row for row in scores if not int(row["support"])]
    shown = (tested + untested)[:MOST_ROWS]
    figure, (left, right) = _rows([row["class"] for row in shown], panels=2, widths=(3, 1))
    if len(shown) < len(scores):
        left.set_title(f"the {len(shown)} of lowest F1 among {len(scores)} classes", fontsize=9, loc="left")
    for y, row in enumerate(shown):
        if not int(row["support"]):
            left.text(0.01, y, "no test images", va="center", fontsize=7, color="0.35")
    here = [y for y, row in enumerate(shown) if int(row["support"])]
    values = {key: [float(shown[y][key] or "nan") for y in here] for key in ("precision", "recall", "f1")}
    left.barh(here, values["f1"], height=0.7, color="0.85", label="F1")
    left.plot(values["precision"], here, "o", color=BLUE, markersize=4, label="precision", clip_on=False)
    left.plot(values["recall"], here, "|", color=RED, markersize=8, markeredgewidth=2, label="recall", clip_on=False)
    left.set(xlim=(0, 1), xlabel="score")
    left.grid(axis="x", alpha=0.3)
    _bars(right, [int(row["support"]) for row in shown], colour=SKY)
    right.set_xlabel("images")
    legend_above(figure, columns=3)
    return figure


def class_balance(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw how many images of each class are in each split; every split has a scale of its own.

    counts: the number of images by class and split.
    """
    shown = dict(sorted(counts.items(), key=lambda item: sum(item[1].values()))[:MOST_ROWS])
    if len(shown) == len(counts):
        shown = dict(counts)  # then in the order of the classes
    splits = {"train": BLUE, "val": ORANGE, "test": GREEN}
    figure, panels = _rows(list(shown), panels=3, widths=(1, 1, 1))
    if len(shown) < len(counts):
        figure.suptitle(f"the {len(shown)} smallest of {len(counts)} classes", fontsize=9)
    for axes, (split, colour) in zip(panels, splits.items(), strict=True):
        _bars(axes, [by_split.get(split, 0) for by_split in shown.values()], colour=colour)
        axes.set_xlabel(f"{split} images")
    return figure


def _rows(names: Sequence[str], *, panels: int, widths: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Make panels side by side with a row for each class, the first on top, named at the left."""
    size = 8 if len(names) <= MOST_COUNTED else 7
    row = 0.24 if len(names) <= MOST_COUNTED else 0.15
    figure = Figure(figsize=(WIDTH, max(1.8, row * len(names) + 1.0)), layout="constrained")
    axes = list(figure.subplots(1, panels, sharey=True, width_ratios=widths, gridspec_kw={"wspace": 0.08}))
    axes[0].set_yticks(range(len(names)), [short(name, NAME) for name in names], fontsize=size)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    for panel in axes:
        panel.tick_params(axis="y", length=0)
        panel.set_axisbelow(True)
    return figure, axes


def _bars(axes: Axes, counts: Sequence[int], *, colour: str) -> None:
    """Draw bars with their counts written beside them; the axis has room for the longest."""
    axes.barh(range(len(counts)), counts, height=0.7, color=colour)
    most = max(max(counts), 1)
    for y, count in enumerate(counts):
        axes.text(count + 0.03 * most, y, str(count), va="center", fontsize=7, color=BLACK)
    axes.set_xlim(0, most * (1.15 + 0.13 * len(str(most))))
    axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    axes.spines["left"].set_visible(False)
