"""What a test leaves behind, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.common.files import read_table
from imgpipe.evaluate.tables import write_curves, write_predictions

PROBABILITIES = np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
FILES = ["test/cat/1.png", "test/cat/2.png", "test/dog/3.png"]


def written(
    folder: Path, labels: list[int], before_scaling: NDArray[np.float64] | None = None
) -> dict[str, list[list[str]]]:
    """Write the tables and return the cells of each, by its name."""
    classes, numbers = ["cat", "dog"], np.array(labels)
    write_predictions(folder, classes=classes, files=FILES, labels=numbers, probabilities=PROBABILITIES)
    write_curves(
        folder / "curves",
        classes=classes,
        labels=numbers,
        probabilities=PROBABILITIES,
        before_scaling=before_scaling,
    )
    return {path.stem: [list(row.values()) for row in read_table(path)] for path in folder.rglob("*.csv")}


def test_a_table_has_names_of_classes_and_six_decimals(tmp_path: Path) -> None:
    tables = written(tmp_path, [0, 1, 1])
    assert tables["predictions"] == [
        ["test/cat/1.png", "cat", "cat", "0.7", "1"],
        ["test/cat/2.png", "dog", "cat", "0.6", "2"],
        ["test/dog/3.png", "dog", "dog", "0.8", "1"],
    ]
    assert tables["classes"] == [
        ["cat", "1", "0.5", "1.0", "0.666667", "1.0"],
        ["dog", "2", "1.0", "0.5", "0.666667", "1.0"],
    ]
    assert tables["thresholds"][70] == ["0.7", "0.666667", "1.0", "0.666667", "0.8"]
    assert tables["thresholds"][100] == ["1.0", "0.0", "", "0.0", "0.0"]
    assert {row[0] for row in tables["roc"]} == {row[0] for row in tables["precision_recall"]} == {"cat", "dog"}
    assert np.load(tmp_path / "probabilities.npy") == pytest.approx(PROBABILITIES)


def test_reliability_is_before_and_after_scaling_where_there_was_one(tmp_path: Path) -> None:
    unscaled = written(tmp_path / "without", [0, 0, 1])["reliability"]
    assert [row[0] for row in unscaled] == ["before"] * 3
    both = written(tmp_path / "with", [0, 0, 1], np.array([[0.95, 0.05], [0.95, 0.05], [0.05, 0.95]]))["reliability"]
    assert both[0] == ["before", "0.933333", "1.0", "3", "0.95", "1.0"]
    assert both[1:] == [["after", *row[1:]] for row in unscaled]


def test_a_test_of_one_class_has_no_roc_curve(tmp_path: Path) -> None:
    tables = written(tmp_path, [0, 0, 0])
    assert tables["roc"] == []
    assert tables["classes"] == [["cat", "3", "1.0", "0.666667", "0.8", ""], ["dog", "0", "0.0", "", "0.0", ""]]
