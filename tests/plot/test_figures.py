"""Figures of the training, of the curves and of confidence; and of all figures, that no text is over another."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from outcome import outcome, write
from sklearn.metrics import average_precision_score, roc_auc_score

from imgpipe.common.files import read_table
from imgpipe.plot import class_figures, drawing, figures, galleries
from imgpipe.plot.galleries import Example

pytestmark = pytest.mark.usefixtures("house_style")

HISTORY = [
    {
        "epoch": str(i),
        "lr": f"{0.1 * i}",
        "train_loss": f"{1 / i}",
        "train_accuracy": f"{1 - 0.5 / i}",
        "val_loss": f"{1.2 / i}",
        "val_accuracy": f"{1 - 0.6 / i}",
    }
    for i in range(1, 4)
]
NAMES = {
    2: ["negative", "positive"],
    10: ["a name so long that no figure has room for all of it", "кошка", "العربية", "_", "漢字", *"56789"],
    100: [f"class {i}" for i in range(100)],
}


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of texts of which one is drawn over the other, and texts beyond the figure's edge."""
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    shown = [
        (text.get_text(), text.get_window_extent().padded(-1))
        for text in drawn_texts(figure)
        if text.get_visible() and text.get_text().strip()
    ]
    edge = figure.bbox.padded(1)
    beyond = [(name, "edge") for name, box in shown if not (edge.contains(*box.min) and edge.contains(*box.max))]
    return beyond + [(a, b) for (a, one), (b, two) in combinations(shown, 2) if Bbox.intersection(one, two)]


def drawn_texts(figure: Figure) -> Iterator[Text]:
    """Yield all texts but the labels of ticks beyond the ends of an axis, which are never drawn."""
    yield from figure.texts
    for legend in figure.legends:
        yield from (legend.get_title(), *legend.get_texts())
    for axes in figure.axes:
        yield from (axes.title, *axes.texts)
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            yield axis.label
            low, high = sorted(axis.get_view_interval())
            for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False):
                if low <= place <= high:
                    yield label


def all_figures(folder: Path, classes: int) -> dict[str, Figure]:
    """Draw every figure of a test with so many classes; where there are more than two, one is without test images."""
    names = NAMES[classes]
    test = outcome(names, 10 * classes, absent=[classes - 1] if classes > 2 else (), skill=2)
    write(test, folder)
    table = {path.stem: read_table(path) for path in (folder / "metrics/test").rglob("*.csv")}
    pixels = np.zeros((20, 30, 3), np.uint8)
    examples = [
        Example(row["file"], pixels, row["actual"], row["predicted"], float(row["confidence"]), None)
        for row in galleries.choose_examples(table["predictions"], names, 30)
    ]
    return {
        "curves": figures.training_curves(read_table(folder / "metrics/train/history.csv"), best=1),
        "roc": figures.roc(table["roc"]),
        "precision_recall": figures.precision_recall(table["precision_recall"]),
        "reliability": figures.reliability(table["reliability"]),
        "thresholds": figures.threshold_curves(table["thresholds"], threshold=0.6, target=0.99),
        "confusion": class_figures.confusion_matrix(table["predictions"], names),
        "classes": class_figures.class_scores(table["classes"]),
        "balance": class_figures.class_balance({name: {"train": 12345, "val": 7, "test": 7} for name in names}),
        "predictions": galleries.gallery(examples, "nothing"),
        "sheet": galleries.contact_sheet(
            [pixels] * classes,
            [[(name, 1.0)] * (1 + 50 * (i % 2)) for i, name in enumerate(names)],
            ["a_file_of_a_long_name.jpg"] * classes,
            "nothing",
        ),
    }


@pytest.mark.parametrize("classes", NAMES)
def test_no_label_is_over_another_or_cut_at_the_edge(tmp_path: Path, classes: int) -> None:
    drawn = all_figures(tmp_path, classes)
    assert {name: overlapping(figure) for name, figure in drawn.items()} == {name: [] for name in drawn}


def test_training_curves_show_both_splits_and_the_learning_rate_and_mark_the_best_epoch() -> None:
    figure = figures.training_curves(HISTORY, best=2)
    loss, accuracy, lr = figure.axes
    assert [np.asarray(line.get_ydata()).tolist() for line in loss.lines[:2]] == [
        [1.0, 0.5, pytest.approx(1 / 3)],
        [1.2, 0.6, pytest.approx(0.4)],
    ]
    assert [np.asarray(line.get_xdata()).tolist() for line in loss.lines] == [[1, 2, 3], [1, 2, 3], [2, 2]]
    assert np.asarray(lr.lines[0].get_ydata()).tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation", "best epoch: 2"]
    assert accuracy.get_ylabel() == "accuracy"


def test_areas_in_the_legends_are_scikit_learn_s_and_the_worst_comes_first(tmp_path: Path) -> None:
    test = outcome(["a", "b", "c"], 90, skill=1)
    write(test, tmp_path)
    curves = {name: read_table(tmp_path / f"metrics/test/curves/{name}.csv") for name in ("roc", "precision_recall")}
    for figure, area in (
        (figures.roc(curves["roc"]), roc_auc_score),
        (figures.precision_recall(curves["precision_recall"]), average_precision_score),
    ):
        areas = sorted((area(test.labels == c, test.probabilities[:, c]), name) for c, name in enumerate("abc"))
        shown = [text.get_text().replace(drawing.LEFT_TO_RIGHT, "") for text in figure.legends[0].get_texts()]
        assert shown == [f"{value:.3f}  {name}" for value, name in areas]


def test_of_a_hundred_curves_the_worst_three_are_named(tmp_path: Path) -> None:
    write(outcome(NAMES[100], 1000, absent=[99], skill=2), tmp_path)
    figure = figures.roc(read_table(tmp_path / "metrics/test/curves/roc.csv"))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 4
    assert labels[-1].startswith("96 others, at least 0.")  # one class has no images and no curve


def test_reliability_shows_bins_that_hold_images_before_and_after_scaling() -> None:
    keys = ("scaling", "low", "high", "pictures", "confidence", "accuracy")
    rows = [("before", 0, 0.5, 0, "", ""), ("before", 0.5, 1, 4, 0.9, 0.75), ("after", 0.5, 1, 6, 0.8, 0.75)]
    figure = figures.reliability([dict(zip(keys, map(str, row), strict=True)) for row in rows])
    top, bottom = figure.axes
    lines = {str(line.get_label()): line.get_xydata() for line in top.lines}
    assert np.asarray(lines["before scaling"]).tolist() == [[0.9, 0.75]]
    assert np.asarray(lines["after scaling"]).tolist() == [[0.8, 0.75]]
    assert [patch.get_height() for patch in bottom.patches] == [4, 6]  # type: ignore[attr-defined]
    figure.draw_without_rendering()
    labels = [label.get_text() for label in (*bottom.get_yticklabels(), *bottom.get_yticklabels(minor=True))]
    assert {"1", "2", "4", "6"} <= set(labels)
    assert not any("$" in label for label in labels)  # of a scale shorter than from 1 to 10


def test_without_scaling_the_reliability_is_the_model_s() -> None:
    row = {"scaling": "before", "low": "0.5", "high": "1", "pictures": "4", "confidence": "0.9", "accuracy": "0.75"}
    assert [text.get_text() for text in figures.reliability([row]).legends[0].get_texts()] == ["perfect", "the model"]


@pytest.mark.parametrize(("threshold", "marked"), [(0.5, ["0.5, chosen on val for a precision of 0.99"]), (None, [])])
def test_the_threshold_is_marked_where_there_is_one(threshold: float | None, marked: list[str]) -> None:
    rows = [{"threshold": "0", "coverage": "1", "precision": "0.5", "recall": "0.5", "f1": "0.5"}]
    rows.append({"threshold": "1", "coverage": "0", "precision": "", "recall": "0", "f1": "0"})
    figure = figures.threshold_curves(rows, threshold=threshold, target=0.99)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["coverage", "precision", "recall", "F1", *marked]
