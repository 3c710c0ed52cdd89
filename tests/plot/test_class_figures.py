"""Figures with a row for each class."""

import numpy as np
import pytest
from outcome import guesses

from imgpipe.plot import class_figures

pytestmark = pytest.mark.usefixtures("house_style")


def test_the_confusion_matrix_counts_actual_by_predicted() -> None:
    rows = guesses("cat cat", "cat dog", "dog dog", "dog dog")
    axes = class_figures.confusion_matrix(rows, ["cat", "cow", "dog"]).axes[0]
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares.tolist() == [[0.5, 0, 0.5], [0, 0, 0], [0, 0, 1]]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "1", (2, 0): "1", (2, 2): "2"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")


def test_the_scores_of_classes_start_with_the_worst_and_end_with_those_that_have_no_images() -> None:
    good = {"class": "good", "support": "3", "precision": "1", "recall": "1", "f1": "1", "auroc": "1"}
    poor = {"class": "poor", "support": "2", "precision": "0.4", "recall": "0.6", "f1": "0.48", "auroc": "1"}
    none = {"class": "none", "support": "0", "precision": "", "recall": "", "f1": "", "auroc": ""}
    left, right = class_figures.class_scores([none, good, poor]).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["poor", "good", "none"]
    assert [patch.get_width() for patch in left.patches] == [0.48, 1]  # type: ignore[attr-defined]
    marks = {str(line.get_label()): np.asarray(line.get_xdata()).tolist() for line in left.lines}
    assert marks == {"precision": [0.4, 1], "recall": [0.6, 1]}
    assert [text.get_text() for text in left.texts] == ["no test images"]
    assert [text.get_text() for text in right.texts] == ["2", "3", "0"]
