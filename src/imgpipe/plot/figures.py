"""Draw the figures of the training, of curves with a line for each class, and of confidence."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from imgpipe.plot.drawing import ACCENT, FAINT, INK, PAPER, QUIET, WIDTH, in_line, legend_above
from imgpipe.plot.results import Row

Curves = dict[str, tuple[NDArray[np.float64], ...]]
"""The x and y of the points of a curve, each (points,), by the name of the class."""

NAMED = ((ACCENT, "-"), (INK, "--"), (INK, ":"))
"""Looks of the worst classes' curves, which are named; as many as an eye can follow. The others are faint."""


def training_curves(history: Sequence[Row], *, best: int) -> Figure:
    """Draw loss and accuracy of the training and validation splits, and the learning rate; the best epoch is marked.

    history: rows of metrics/train/history.csv.
    best: the best epoch, counted from 1.
    """
    epochs = [int(row["epoch"]) for row in history]
    marker = "." if len(epochs) < 30 else ""
    figure = Figure(figsize=(WIDTH, 5), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (2, 2, 1), "hspace": 0.1})
    for axes, name in zip(panels, ("loss", "accuracy"), strict=False):
        for split, label, colour, dash in (("train", "training", QUIET, "--"), ("val", "validation", INK, "-")):
            values = [float(row[f"{split}_{name}"]) for row in history]
            axes.plot(epochs, values, dash, color=colour, label=label, marker=marker)
        axes.set_ylabel(name)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    panels[2].plot(epochs, [float(row["lr"]) for row in history], color=INK, marker=marker)
    panels[2].set(ylabel="learning rate", xlabel="epoch", ylim=(0, None))
    panels[2].set_xlim(0.5, epochs[-1] + 0.5)
    panels[2].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in panels:
        axes.axvline(best, color=ACCENT, linewidth=1, zorder=0, label=f"best epoch: {best}")
        axes.grid()
    figure.align_ylabels(panels)
    legend_above(figure, columns=3)
    return figure


def roc(curves: Sequence[Row]) -> Figure:
    """Draw true over false positive rates of each class against the rest, and name the area under each curve.

    curves: rows of metrics/test/curves/roc.csv.
    """
    by_class = _by_class(curves, "false_positive_rate", "true_positive_rate")
    figure, axes = _draw_curves(by_class, areas_under_roc(curves), area_name="area under the curve", step="default")
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=0)
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    return figure


def precision_recall(curves: Sequence[Row]) -> Figure:
    """Draw precision over recall of each class, and name its average precision, the area under the steps.

    curves: rows of metrics/test/curves/precision_recall.csv, those of a class by rising recall.
    """
    by_class = _by_class(curves, "recall", "precision")
    figure, axes = _draw_curves(by_class, average_precisions(curves), area_name="average precision", step="steps-pre")
    axes.set(xlabel="recall", ylabel="precision")
    return figure


def areas_under_roc(curves: Iterable[Row]) -> dict[str, float]:
    """Return the area under the ROC curve of each class."""
    by_class = _by_class(curves, "false_positive_rate", "true_positive_rate")
    return {name: float(np.trapezoid(y, x)) for name, (x, y) in by_class.items()}


def average_precisions(curves: Iterable[Row]) -> dict[str, float]:
    """Return the average precision of each class, the area under the steps."""
    by_class = _by_class(curves, "recall", "precision")
    return {name: float((np.diff(x) * y[1:]).sum()) for name, (x, y) in by_class.items()}


def _by_class(rows: Iterable[Row], *keys: str) -> Curves:
    """Return columns of the rows of each class, in their order."""
    points: dict[str, list[list[float]]] = {}
    for row in rows:
        points.setdefault(row["class"], []).append([float(row[key]) for key in keys])
    return {name: tuple(np.array(of_class).T) for name, of_class in points.items()}


def _draw_curves(curves: Curves, areas: Mapping[str, float], *, area_name: str, step: str) -> tuple[Figure, Axes]:
    """Draw a curve for each class; the worst are named in the legend below, the worst first, and the others are faint.

    areas: by class; a small one is bad.
    area_name: what the legend calls an area.
    step: matplotlib's style of the line between two points.
    """
    worst_first = sorted(curves, key=lambda name: areas[name])
    named, others = worst_first[: len(NAMED)], worst_first[len(NAMED) :]
    figure = Figure(figsize=(WIDTH, 4.3), layout=ConstrainedLayoutEngine(h_pad=0.06))
    axes = figure.subplots()
    for name in others:
        label = f"{_others(len(others))}, at least {areas[others[0]]:.3f}" if name == others[0] else None
        axes.plot(*curves[name], color=FAINT, linewidth=0.8, label=label, drawstyle=step)
    for name, (colour, dash) in reversed(list(zip(named, NAMED, strict=False))):
        axes.plot(*curves[name], dash, color=colour, label=f"{areas[name]:.3f}  {in_line(name, 24)}", drawstyle=step)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid()
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], title=f"{area_name}, class", loc="outside lower center", borderaxespad=0)
    return figure, axes


def _others(count: int) -> str:
    return "1 other" if count == 1 else f"{count} others"


def reliability(bins: Sequence[Row]) -> Figure:
    """Draw accuracy over confidence, before and after temperature scaling, and how many images are in each bin.

    The diagram is that of Guo et al. 2017, On Calibration of Modern Neural Networks, section 2.

    bins: rows of metrics/test/curves/reliability.csv.
    """
    figure = Figure(figsize=(WIDTH, 4.3), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1), "hspace": 0.1})
    top.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="perfect", zorder=0)
    scalings = [name for name in ("before", "after") if any(row["scaling"] == name for row in bins)]
    looks = {"before": (QUIET, "--", "s"), "after": (ACCENT, "-", "o")}
    for i, scaling in enumerate(scalings):
        rows = [row for row in bins if row["scaling"] == scaling and int(row["pictures"])]
        colour, dash, marker = looks[scaling]
        label = f"{scaling} scaling" if len(scalings) > 1 else "the model"
        top.plot(
            [float(row["confidence"]) for row in rows],
            [float(row["accuracy"]) for row in rows],
            dash,
            color=colour,
            marker=marker,
            markersize=4,
            label=label,
            clip_on=False,
        )
        lows, highs = (np.array([float(row[end]) for row in rows]) for end in ("low", "high"))
        width = (highs - lows) * 0.8 / len(scalings)
        bottom.bar(
            lows + (highs - lows) * 0.1 + i * width,
            [int(row["pictures"]) for row in rows],
            width,
            align="edge",
            color=colour,
            hatch="///" if scaling == "before" else None,
            edgecolor=PAPER,
            linewidth=0,
        )
    top.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02))
    bottom.set(xlabel="confidence", ylabel="images", yscale="log", ylim=(0.7, None))
    bottom.yaxis.set_major_formatter("{x:g}")
    bottom.yaxis.set_minor_formatter(LogFormatter())  # numbers, as mathtext is off, and few of them
    for axes in (top, bottom):
        axes.set_axisbelow(True)
        axes.grid()
    figure.align_ylabels([top, bottom])
    legend_above(figure, columns=3)
    return figure


def threshold_curves(rows: Sequence[Row], *, threshold: float | None, target: float) -> Figure:
    """Draw what is gained and lost by answering only where the confidence is at least a threshold.

    rows: of metrics/test/curves/thresholds.csv.
    threshold: the one that val shows to reach the wanted precision; marked unless it is None.
    target: the wanted precision.
    """
    figure = Figure(figsize=(WIDTH, 4.3), layout="constrained")
    axes = figure.subplots()
    x = [float(row["threshold"]) for row in rows]
    looks = {"coverage": (QUIET, ":"), "precision": (ACCENT, "-"), "recall": (INK, "--"), "f1": (QUIET, "-.")}
    for name, (colour, dash) in looks.items():
        y = [float(row[name]) if row[name] else np.nan for row in rows]
        axes.plot(x, y, dash, color=colour, label="F1" if name == "f1" else name)
    if threshold is not None:
        label = f"{threshold:.3g}, chosen on val for a precision of {target:g}"
        axes.axvline(threshold, color=FAINT, linewidth=3, zorder=0, label=label)
    axes.set(xlabel="threshold on the confidence", ylabel="share", ylim=(-0.02, 1.02))
    axes.grid()
    legend_above(figure, columns=2)
    return figure
