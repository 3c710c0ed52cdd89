"""Draw a judgement as a forest plot: the differences from the base with their intervals, and the single runs."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imgpipe.commands.comparing.judging import METRICS, Candidate, Judgement
from imgpipe.commands.comparing.paired import BETTER, WORSE
from imgpipe.commands.comparing.verdicts import EQUIVALENT
from imgpipe.plot.drawing import BLUE, GREEN, RED, house_style, in_line, save

GREY = "#6b6b6b"
COLOURS = {BETTER: BLUE, WORSE: RED, EQUIVALENT: GREEN}
"""By verdict; grey where it is out."""
ROW = 0.62  # inches
DPI = 150


def draw_forest(path: Path, judgement: Judgement) -> None:
    """Draw the judgement into a .png or .svg file."""
    with house_style():
        save(_figure(judgement), path, dpi=DPI)


def _figure(judgement: Judgement) -> Figure:
    rows = len(judgement.sets)
    figure = Figure(figsize=(8.0, 1.25 + ROW * rows), layout="constrained")
    axes = figure.subplots()
    values = [judgement.values(number, judgement.metric) for number in range(rows)]
    base = sum(values[0]) / len(values[0])
    if judgement.margin is not None:
        axes.axvspan(-judgement.margin, judgement.margin, color=GREEN, alpha=0.12, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for number, of_runs in enumerate(values):
        offsets = [value - start for value, start in zip(of_runs, _starts(judgement, values, number), strict=True)]
        _dots(axes, offsets, number, GREY if number == 0 else _colour(judgement.candidates[number - 1]))
    for one in judgement.candidates:
        _interval(axes, judgement, one)
    axes.set_yticks(range(rows), [in_line(judgement.label(number), 24) for number in range(rows)])
    axes.set_ylim(rows - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    metric = judgement.metric.replace("_", " ")
    axes.set_xlabel(
        f"{metric} on {judgement.split}: difference from {in_line(judgement.label(0), 24)} (mean {base:.4f})"
    )
    ends = ("← worse", "better →") if METRICS[judgement.metric] else ("← better", "worse →")
    for end, side in zip(ends, ("left", "right"), strict=True):
        axes.set_title(end, loc=side, fontsize=9, color=GREY)  # type: ignore[arg-type]
    figure.supxlabel(_key(judgement), fontsize=8, color=GREY)
    return figure


def _starts(judgement: Judgement, values: list[list[float]], number: int) -> list[float]:
    """Return what is subtracted from each value of a set: the base's mean, or on several splits its value on that."""
    if len(judgement.tested) > 1 and number:
        return values[0]
    return [sum(values[0]) / len(values[0])] * len(values[number])


def _key(judgement: Judgement) -> str:
    """Say what the marks are."""
    if judgement.of_models:
        return "square: the difference; line: its 95 % interval, over images alone"
    several = len(judgement.tested) > 1
    dots, over = ("splits", "splits of the data") if several else ("runs", "training seeds and images")
    return f"dots: {dots}; square: mean difference; line: its 95 % interval, over {over}" + (
        "; band: the margin" if judgement.margin else ""
    )


def _colour(one: Candidate) -> str:
    return COLOURS.get(one.verdict.verdict, GREY)


def _dots(axes: Axes, offsets: list[float], row: int, colour: str) -> None:
    axes.plot(
        offsets,
        [row + (0.25 if row else 0)] * len(offsets),
        "o",
        color=colour,
        alpha=0.45,
        markersize=4.5,
        markeredgewidth=0,
    )


def _interval(axes: Axes, judgement: Judgement, one: Candidate) -> None:
    """Draw a candidate's difference and its interval, and write the verdict and both beside it."""
    if one.models:
        metric = one.models.metrics[judgement.metric]
        difference, low, high = metric.difference, metric.low, metric.high
    else:
        estimate = one.estimates[judgement.metric]
        difference, (low, high) = estimate.difference, estimate.interval
    colour = _colour(one)
    axes.plot([low, high], [one.number] * 2, color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([difference], [one.number], "s", color=colour, markersize=6)
    axes.text(
        1.03,
        one.number,
        f"{one.verdict.verdict}\n{difference:+.4f} ({low:+.4f} to {high:+.4f})",
        transform=axes.get_yaxis_transform(),
        va="center",
        color=colour,
        fontsize=8.5,
    )
