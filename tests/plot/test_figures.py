"""Tables to figures."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from outcome import outcome, predictions, write
from PIL import Image
from samples import form
from sklearn.metrics import average_precision_score, roc_auc_score

from imgpipe.common.files import read_table
from imgpipe.data.packed import read_split
from imgpipe.plot import class_figures, drawing, figures, galleries
from imgpipe.plot.drawing import Row
from imgpipe.plot.galleries import Example

HISTORY: list[Row] = [
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
CURVES: list[Row] = [
    {"class": c, "false_positive_rate": x, "true_positive_rate": y}
    for c in ("cat", "dog")
    for x, y in (("0.0", "0.0"), ("0.0", "0.5"), ("1.0", "1.0"))
]
NAMES = {
    2: ["negative", "positive"],
    10: ["a name so long that no figure has room for all of it", "кошка", "العربية", "_", "漢字", *"56789"],
    100: [f"class {i}" for i in range(100)],
}


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with drawing.house_style():
        yield


def guesses(*pairs: str, confidence: float = 0.5) -> list[Row]:
    """Predictions from "actual predicted"."""
    return [
        {"file": f"{i}.png", "actual": pair.split()[0], "predicted": pair.split()[1], "confidence": str(confidence)}
        for i, pair in enumerate(pairs)
    ]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of which one is drawn over the other, and texts beyond the figure's edge."""
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
    """All texts but the labels of ticks beyond the ends of an axis, which are never drawn."""
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
    """Every figure of a test with so many classes; where there are more than two, one is without test images."""
    names = NAMES[classes]
    test = outcome(names, 10 * classes, absent=[classes - 1] if classes > 2 else (), skill=2)
    write(test, folder)
    table = {path.stem: read_table(path) for path in (folder / "metrics/test").rglob("*.csv")}
    pixels = np.zeros((20, 30, 3), np.uint8)
    examples = [
        Example(row["file"], pixels, row["actual"], row["predicted"], float(row["confidence"]))
        for row in galleries.choose_examples(table["predictions"], names, 30)
    ]
    return {
        "curves": figures.training_curves(read_table(folder / "metrics/train/history.csv")),
        "roc": figures.roc(table["roc"]),
        "precision_recall": figures.precision_recall(table["precision_recall"]),
        "reliability": figures.reliability(table["reliability"]),
        "thresholds": figures.threshold_curves(table["thresholds"], threshold=0.6, target=0.99),
        "confusion": class_figures.confusion_matrix(table["predictions"], names),
        "classes": class_figures.class_scores(table["classes"]),
        "balance": class_figures.class_balance({name: {"train": 12345, "val": 7, "test": 7} for name in names}),
        "predictions": galleries.image_grid(examples, "nothing"),
    }


@pytest.mark.parametrize("classes", NAMES)
def test_no_label_is_over_another_or_cut_at_the_edge(tmp_path: Path, classes: int) -> None:
    drawn = all_figures(tmp_path, classes)
    assert {name: overlapping(figure) for name, figure in drawn.items()} == {name: [] for name in drawn}


def test_training_curves_show_both_splits_and_the_learning_rate_and_mark_the_best_epoch() -> None:
    figure = figures.training_curves(HISTORY)
    loss, accuracy, lr = figure.axes
    assert [np.asarray(line.get_ydata()).tolist() for line in loss.lines[:2]] == [
        [1.0, 0.5, pytest.approx(1 / 3)],
        [1.2, 0.6, pytest.approx(0.4)],
    ]
    assert [np.asarray(line.get_xdata()).tolist() for line in loss.lines] == [[1, 2, 3], [1, 2, 3], [3, 3]]
    assert np.asarray(lr.lines[0].get_ydata()).tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert {"training", "validation", "best epoch: 3"} <= set(texts(figure))
    assert accuracy.get_ylabel() == "accuracy"


def test_the_confusion_matrix_counts_actual_by_predicted() -> None:
    rows = guesses("cat cat", "cat dog", "dog dog", "dog dog")
    axes = class_figures.confusion_matrix(rows, ["cat", "cow", "dog"]).axes[0]
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares.tolist() == [[0.5, 0, 0.5], [0, 0, 0], [0, 0, 1]]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "1", (2, 0): "1", (2, 2): "2"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")


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


def test_of_a_hundred_curves_the_worst_five_are_named(tmp_path: Path) -> None:
    figure = all_figures(tmp_path, 100)["roc"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 6
    assert labels[-1].startswith("94 others, at least 0.")  # one class has no images and no curve


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


@pytest.mark.parametrize(("threshold", "marked"), [(0.5, ["threshold 0.5: precision at least 0.99"]), (None, [])])
def test_the_threshold_is_marked_where_there_is_one(threshold: float | None, marked: list[str]) -> None:
    rows = [{"threshold": "0", "coverage": "1", "precision": "0.5", "recall": "0.5", "f1": "0.5"}]
    rows.append({"threshold": "1", "coverage": "0", "precision": "", "recall": "0", "f1": "0"})
    figure = figures.threshold_curves(rows, threshold=threshold, target=0.99)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["coverage", "precision", "recall", "F1", *marked]


def test_the_scores_of_classes_start_with_the_worst_and_end_with_those_that_have_no_images() -> None:
    good = {"class": "good", "support": "3", "precision": "1", "recall": "1", "f1": "1", "auroc": "1"}
    poor = {"class": "poor", "support": "2", "precision": "0.4", "recall": "0.6", "f1": "0.48", "auroc": "1"}
    none = {"class": "none", "support": "0", "precision": "", "recall": "", "f1": "", "auroc": ""}
    left, right = class_figures.class_scores([none, good, poor]).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["poor", "good", "none"]
    assert [patch.get_width() for patch in left.patches] == [0.48, 1]  # type: ignore[attr-defined]
    marks = {str(line.get_label()): np.asarray(line.get_xdata()).tolist() for line in left.lines}
    assert marks == {"precision": [0.4, 1], "recall": [0.6, 1]}
    assert [text.get_text() for text in left.texts] == ["no test pictures"]
    assert [text.get_text() for text in right.texts] == ["2", "3", "0"]


def test_examples_are_as_many_of_each_class_spread_over_its_images() -> None:
    rows = guesses(*(["a a"] * 6 + ["b b"] * 2 + ["c c"] * 9))
    chosen = galleries.choose_examples(rows, ["a", "b", "c", "empty"], 9)
    assert [row["file"] for row in chosen] == ["0.png", "2.png", "4.png", "6.png", "7.png", "8.png", "11.png", "14.png"]
    assert [row["actual"] for row in galleries.choose_examples(rows, ["a", "b", "c"], 2)] == ["a", "b"]


def test_mistakes_come_with_the_most_confident_first_and_none_is_said_in_words() -> None:
    rows = [*guesses("a a", "a b", confidence=0.6), *guesses("b b", "b a", confidence=0.9)]
    assert [row["confidence"] for row in galleries.confident_mistakes(rows)] == ["0.9", "0.6"]
    assert texts(galleries.image_grid([], "No mistakes among 4 pictures")) == ["No mistakes among 4 pictures"]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_as_they_were_packed_and_mistakes_by_sign_and_dash_too(tmp_path: Path, channels: int) -> None:
    test = outcome(["a", "b"], 40, skill=1, shape=(6, 10, channels))
    write(test, tmp_path)
    split = read_split(tmp_path / "data/packed/test", form(channels=channels))
    rows = [{key: str(value) for key, value in row.items()} for row in predictions(test)]
    right = next(row for row in rows if row["actual"] == row["predicted"])
    wrong = next(row for row in rows if row["actual"] != row["predicted"])
    examples = galleries.with_pixels([wrong, right], split)
    figure = galleries.image_grid(examples, "nothing")
    (axes,) = figure.axes
    for image, row in zip(axes.images, (wrong, right), strict=True):
        pixels = image.get_array()
        assert pixels is not None
        assert pixels.reshape(6, 10, channels).tolist() == split.image(split.files.index(row["file"])).tolist()
    assert [frame.get_linestyle() == "-" for frame in axes.patches] == [False, True]
    assert [text[0] for text in texts(figure) if text[:1] in ("✓", "✗")] == ["✗", "✓"]
    assert f"is {drawing.in_line(wrong['actual'], 9)}" in "".join(texts(figure))


def test_names_of_classes_are_shown_as_they_are_and_a_user_s_style_is_not_used(tmp_path: Path) -> None:
    curves = [{**row, "class": name} for row in CURVES for name in ("$_$", "_bg")]
    sizes = []
    for size in (10, 20):
        with matplotlib.rc_context({"font.size": size}), drawing.house_style():
            figure = figures.roc(curves)
            drawing.save(figure, tmp_path / "roc.svg", dpi=80)
        sizes.append((tmp_path / "roc.svg").read_bytes())
    assert sizes[0] == sizes[1]
    names = [text.get_text().split(drawing.LEFT_TO_RIGHT)[1] for text in figure.legends[0].get_texts()]
    assert names == ["$_$", "_bg"]


def test_letters_that_matplotlib_lacks_are_text_in_an_svg(tmp_path: Path) -> None:
    figure = class_figures.confusion_matrix(guesses("漢字 漢字", "a a"), ["漢字", "a"])
    drawing.save(figure, tmp_path / "one.svg", dpi=80)
    assert "漢字" in [element.text for element in ET.parse(tmp_path / "one.svg").iter()]
    assert drawing.foreign_letters(figure) == ["字", "漢"]
    plain = class_figures.confusion_matrix(guesses("кошка кошка"), ["кошка"])
    drawing.save(plain, tmp_path / "two.svg", dpi=80)
    assert not [element for element in ET.parse(tmp_path / "two.svg").iter() if element.tag.endswith("text")]
    assert drawing.foreign_letters(plain) == []


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_figure_drawn_twice_is_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        drawing.save(figures.training_curves(HISTORY), tmp_path / name / f"curves.{ending}", dpi=80)
    one, two = (tmp_path / name / f"curves.{ending}" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    if ending == "svg":
        assert ET.parse(one).getroot().tag.endswith("svg")
    else:
        assert Image.open(one).size == (400, 480)  # 5 x 6 inches of 80 dots
