"""Tables to figures. Colours are Okabe and Ito's, which the colour-blind can tell apart."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from imgpipe.files import replacing

Row = dict[str, str]

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
DASHES = ("-", "--", ":")


@contextmanager
def house_style() -> Iterator[None]:
    """The context to draw and save figures in: matplotlib's defaults, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False  # a class may be called $x$
        yield


def training_curves(history: Sequence[Row]) -> Figure:
    """Loss and accuracy of the training and validation splits over the epochs; the best epoch is marked.

    history: rows of metrics/train/history.csv.
    """
    epochs = [int(row["epoch"]) for row in history]
    best = max(history, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, label, colour, dash in (("train", "training", BLUE, "--"), ("val", "validation", ORANGE, "-")):
            values = [float(row[f"{split}_{name}"]) for row in history]
            axes.plot(epochs, values, dash, color=colour, label=label, marker="." if len(epochs) < 30 else "")
        axes.axvline(int(best["epoch"]), color="0.7", linewidth=1, zorder=0, label="best epoch")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.legend(frameon=False)
    return figure


def confusion_matrix(predictions: Sequence[Row]) -> Figure:
    """How many pictures of each class were taken for which; shaded by the share of the actual class.

    predictions: rows of metrics/test/predictions.csv.
    """
    classes = sorted({row[key] for row in predictions for key in ("actual", "predicted")})
    counts = Counter((row["actual"], row["predicted"]) for row in predictions)
    matrix = np.array([[counts[actual, predicted] for predicted in classes] for actual in classes])
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    inches = min(max(4.0, 0.45 * len(classes) + 1.5), 20)
    figure = Figure(figsize=(inches + 0.8, inches), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the actual class")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
    size = float(np.interp(len(classes), (10, 40), (9, 5)))
    axes.set_xticks(range(len(classes)), classes, rotation=90 if max(map(len, classes)) > 2 else 0, fontsize=size)
    axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.set(xlabel="predicted", ylabel="actual")
    if len(classes) <= 40:
        for (y, x), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if share[y, x] > 0.5 else "black"
                axes.text(x, y, str(count), ha="center", va="center", color=colour, fontsize=size)
    return figure


def roc(curves: Sequence[Row]) -> Figure:
    """True against false positive rate of each class against the rest; the legend is left out above 21 classes.

    curves: rows of metrics/test/roc.csv.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for row in curves:
        points.setdefault(row["class"], []).append(
            (float(row["false_positive_rate"]), float(row["true_positive_rate"]))
        )
    styles = cycle((colour, dash) for dash in DASHES for colour in COLOURS)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for (name, curve), (colour, dash) in zip(points.items(), styles, strict=False):
        # a leading underscore would keep a name out of the legend
        label = f" {name}" if name.startswith("_") else name
        axes.plot(*zip(*curve, strict=True), dash, color=colour, label=label, linewidth=1.5)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    if len(points) <= len(COLOURS) * len(DASHES):
        axes.legend(title="class", frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def save(figure: Figure, path: Path, *, dpi: int) -> None:
    """The figure in the format of the path's ending. Equal figures give equal bytes: no dates, no random ids."""
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with replacing(path) as draft, matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(draft, format=path.suffix[1:], dpi=dpi, metadata=metadata)
