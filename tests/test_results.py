"""Predictions to numbers and figures."""

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imgpipe import figures, scoring
from imgpipe.figures import Row

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 0, 1, 1, 2])


def test_softmax_is_exact_also_for_large_logits() -> None:
    probabilities = scoring.softmax(np.array([[1000.0, 1000.0], [0.0, np.log(3.0)]], dtype=np.float32))
    assert probabilities == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))


def test_metrics_are_those_worked_out_by_hand() -> None:
    """Predicted 0 0 1 0 2: right 0 0 1 - 2. Precision 2/3, 1, 1; recall 1, 1/2, 1; F1 4/5, 2/3, 1."""
    numbers = scoring.score(PROBABILITIES, LABELS)
    # class 0: every pair right but (0.5 of picture 1, 0.6 of picture 3): 5 of 6; class 1: pairs of 0.8 and 0.3
    # against 0.2, 0.3, 0.2: 5 and one tie of 6; class 2: 4 of 4
    assert numbers == {
        "accuracy": 0.8,
        "balanced_accuracy": pytest.approx(2.5 / 3, abs=1e-6),
        "precision_macro": pytest.approx((2 / 3 + 1 + 1) / 3, abs=1e-6),
        "recall_macro": pytest.approx(2.5 / 3, abs=1e-6),
        "f1_macro": pytest.approx((4 / 5 + 2 / 3 + 1) / 3, abs=1e-6),
        "roc_auc_ovr_macro": pytest.approx((5 / 6 + 5.5 / 6 + 1) / 3, abs=1e-6),
        "loss": pytest.approx(-np.log([0.7, 0.5, 0.8, 0.3, 0.6]).mean(), abs=1e-6),
        "images": 5,
    }


def test_classes_without_test_pictures_are_left_out_of_the_means() -> None:
    numbers = scoring.score(PROBABILITIES[:4], LABELS[:4])
    assert numbers["balanced_accuracy"] == 0.75
    assert numbers["recall_macro"] == 0.75
    # of 0.7 0.5 against 0.1 0.6, 3 pairs of 4; of 0.8 0.3 against 0.2 0.3, 3 and a tie
    assert numbers["roc_auc_ovr_macro"] == pytest.approx((3 / 4 + 3.5 / 4) / 2)
    assert set(scoring.roc_curves(PROBABILITIES[:4], LABELS[:4])) == {0, 1}


def test_a_roc_curve_starts_at_none_and_ends_at_all() -> None:
    false_positives, true_positives = scoring.roc_curves(PROBABILITIES, LABELS)[0]
    assert (false_positives[0], true_positives[0]) == (0, 0)
    assert (false_positives[-1], true_positives[-1]) == (1, 1)
    area = float(np.trapezoid(true_positives, false_positives))
    assert area == pytest.approx(5 / 6)


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
