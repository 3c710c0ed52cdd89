"""Tables to figures."""

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imgpipe import figures
from imgpipe.figures import Row

HISTORY: list[Row] = [
    {
        "epoch": str(i),
        "lr": "0.1",
        "train_loss": f"{1 / i}",
        "train_accuracy": f"{1 - 0.5 / i}",
        "val_loss": f"{1.2 / i}",
        "val_accuracy": f"{1 - 0.6 / i}",
    }
    for i in range(1, 4)
]
PREDICTIONS: list[Row] = [
    {"file": f"{i}.png", "actual": actual, "predicted": guess, "confidence": "0.5"}
    for i, (actual, guess) in enumerate([("cat", "cat"), ("cat", "dog"), ("dog", "dog"), ("dog", "dog")])
]
CURVES: list[Row] = [
    {"class": c, "false_positive_rate": x, "true_positive_rate": y}
    for c in ("cat", "dog")
    for x, y in (("0.0", "0.0"), ("0.0", "0.5"), ("1.0", "1.0"))
]


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_the_confusion_matrix_counts_actual_by_predicted() -> None:
    axes = figures.confusion_matrix(PREDICTIONS).axes[0]
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "1", (1, 0): "1", (1, 1): "2"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")


def test_a_confusion_matrix_of_a_hundred_classes_keeps_its_names_apart() -> None:
    names = [f"class {i}" for i in range(100)]
    figure = figures.confusion_matrix([{"actual": n, "predicted": n} for n in names])
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(above[0] >= below[1] for below, above in pairwise(heights))


def test_training_curves_show_both_splits_and_mark_the_best_epoch() -> None:
    figure = figures.training_curves(HISTORY)
    loss, accuracy = figure.axes
    assert [np.asarray(line.get_ydata()).tolist() for line in loss.lines[:2]] == [
        [1.0, 0.5, pytest.approx(1 / 3)],
        [1.2, 0.6, pytest.approx(0.4)],
    ]
    assert [np.asarray(line.get_xdata()).tolist() for line in loss.lines] == [[1, 2, 3], [1, 2, 3], [3, 3]]
    assert {"training", "validation", "best epoch"} <= set(texts(figure))
    assert accuracy.get_ylabel() == "accuracy"


def test_roc_draws_a_curve_for_each_class() -> None:
    figure = figures.roc(CURVES)
    lines = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in figure.axes[0].lines}
    assert lines["cat"] == [0.0, 0.5, 1.0]
    assert {"cat", "dog"} <= set(texts(figure))


def test_names_of_classes_are_shown_as_they_are_and_a_user_s_style_is_not_used(tmp_path: Path) -> None:
    rows = [{"actual": n, "predicted": n} for n in ("$_$", "_bg", "a,b")]
    curves = [{**row, "class": name} for row in CURVES for name in ("$_$", "_bg")]
    sizes = []
    for size in (10, 20):
        with matplotlib.rc_context({"font.size": size}), figures.house_style():
            figures.save(figures.confusion_matrix(rows), tmp_path / "confusion.svg", dpi=80)
            figure = figures.roc(curves)
            figures.save(figure, tmp_path / "roc.svg", dpi=80)
        sizes.append((tmp_path / "roc.svg").read_bytes())
    assert sizes[0] == sizes[1]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["$_$", "_bg"]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_figure_drawn_twice_is_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        figures.save(figures.roc(CURVES), tmp_path / name / f"roc.{ending}", dpi=80)
    one, two = (tmp_path / name / f"roc.{ending}" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    if ending == "svg":
        assert ET.parse(one).getroot().tag.endswith("svg")
    else:
        assert Image.open(one).size == (512, 384)  # 6.4 x 4.8 inches of 80 dots
