"""What the report says in words, of results worked out by hand."""

from dataclasses import replace
from typing import Any

import pytest
from outcome import guesses

from imgpipe.plot import findings
from imgpipe.plot.results import Evaluation, Preparation, Training

ROWS = guesses("cat cat", "cat dog", "cat dog", "dog dog", "dog cat", "dog dog", "dog dog", "fox fox", "fox fox")
TEST = Evaluation({}, [], ROWS, [], [], [], [], {})
COUNTS = {"cat": {"train": 3}, "dog": {"train": 9}, "fox": {"train": 5}}
DATA = Preparation({}, COUNTS, [], [], 17, [])


def plain(text: str) -> str:
    """Return the text without what keeps names and numbers apart from others."""
    return text.replace("\u2068", "").replace("\u2069", "").replace("\xa0", " ")


def test_the_accuracy_is_compared_with_always_answering_the_class_most_frequent_in_training() -> None:
    """dog has 9 images in training, and 4 of the 9 of the test."""
    guess = findings.majority_guess(DATA, TEST)
    said = "Always answering “dog”, the most frequent class in training, would give 44.4 %"
    assert plain(findings.on_guess(guess, 0.5)) == f"{said}."
    assert plain(findings.on_guess(guess, None)) == f"{said}."
    assert plain(findings.on_guess(guess, 0.4)) == f"{said}: that the network does better is not shown."


def test_the_hardest_class_is_named_with_what_it_is_taken_for() -> None:
    hardest = findings.hardest_class(ROWS)
    assert plain(findings.on_hardest(hardest)) == "Hardest is “cat”: 1 of 3 recognised, 2 taken for “dog”."
    none = findings.hardest_class(guesses("a b", "a b", "b b"))
    assert plain(findings.on_hardest(none)) == "Hardest is “a”: 0 of 2 recognised, all taken for “b”."
    assert (
        findings.on_hardest(findings.hardest_class(guesses("a a", "b b")))
        == "Every image of every class is recognised."
    )


def test_the_most_frequent_confusion_is_named_and_how_often_it_goes_the_other_way() -> None:
    pairs, matrix = findings.confusions(ROWS), findings.confusion_matrix(ROWS, ["cat", "dog", "fox"])
    assert plain(findings.on_confusions(pairs, matrix)) == (
        "“cat” is taken for “dog” most often: 2 of its 3 images. The other way round it is 1."
    )
    assert findings.on_confusions(pairs[:1], matrix).endswith("It never happens the other way round.")
    assert findings.on_confusions([], matrix) == "No class is taken for another."
    assert matrix.counts == [[1, 2, 0], [1, 3, 0], [0, 0, 2]]
    assert (matrix.images, matrix.whole) == ([3, 4, 2], True)


def test_of_many_classes_those_are_shown_that_are_confused_most_and_the_rest_is_one_column() -> None:
    """c19 is taken twice for c18, and the first confusions of those that happen once fill the other ten places."""
    classes = [f"c{i:02}" for i in range(20)]
    once = [f"c{i:02} c{i - 1:02}" for i in range(1, 18)]
    matrix = findings.confusion_matrix(guesses("c19 c18", "c19 c18", "c19 c00", "c19 c19", "c05 c12", *once), classes)
    assert not matrix.whole
    assert len(matrix.classes) == 12
    assert matrix.classes[-2:] == ["c18", "c19"]
    assert matrix.counts[-1][-3:] == [2, 1, 0]
    assert sum(matrix.counts[-1]) == matrix.images[-1] == 4


def test_classes_without_a_mistake_are_counted_and_the_answer_that_is_wrong_most_often_is_named() -> None:
    """Of the answers, 1 of 2 cat is wrong and 2 of 5 dog."""
    assert plain(findings.on_classes(ROWS)) == (
        "1 of 3 classes is recognised without a mistake. The answer “cat” is wrong most often, in 1 of 2."
    )
    assert findings.on_classes(guesses("a a", "b b")) == "All 2 classes are recognised without a mistake."
    assert findings.on_classes(guesses("a b", "b a")).startswith("None of 2 classes are recognised")


@pytest.mark.parametrize(
    ("best", "tested", "said"),
    [
        (
            1,
            "best",
            "Epoch 1 of 2 did best on the validation split, with 90 % right; the best was tested. After it the "
            "validation loss rose from 0.200 to 0.300.",
        ),
        (
            2,
            "last",
            "Epoch 2 of 2 did best on the validation split, with 85 % right; the last was tested. It is the last: "
            "more epochs may do better.",
        ),
    ],
)
def test_training_is_told_by_its_best_epoch_and_what_came_after(best: int, tested: str, said: str) -> None:
    history = [{"val_accuracy": "0.9", "val_loss": "0.2"}, {"val_accuracy": "0.85", "val_loss": "0.3"}]
    assert plain(findings.on_training(Training(history, best), tested)) == said


def test_the_worst_curve_is_named_and_full_ones_are_counted() -> None:
    assert plain(findings.on_curves({"a": 1.0, "b": 0.9, "c": 0.9996}, "area")) == (
        "The lowest area, 0.900, is that of “b”. For 2 of 3 classes it is 1.000 when rounded."
    )
    assert findings.on_curves({"a": 1.0}, "area") == "Of every class the area is 1.000 when rounded."


def test_confidence_is_believed_unless_its_error_is_more_than_chance() -> None:
    """Confidence is 0.5 everywhere."""
    numbers: dict[str, Any] = {"ece": 0.03, "ece_null_mean": 0.02, "ece_null_q95": 0.04}
    assert findings.on_confidence(numbers | {"accuracy": 0.4}, ROWS).startswith("It is as sure as it is right")
    off = numbers | {"ece": 0.1}
    assert plain(findings.on_confidence(off | {"accuracy": 0.4}, ROWS)) == (
        "It is surer than it is right: 50 % sure on average, and 40 % right."
    )
    assert "less sure than" in findings.on_confidence(off | {"accuracy": 0.6}, ROWS)
    assert "They are 10.0 points apart on average" in findings.on_calibration(off)


def test_duplicates_are_told_of_where_they_are_of_two_classes_or_left_in_two_splits() -> None:
    pair = {"kind": "equal", "split": "train", "label": "a", "twin_split": "test", "twin_label": "a", "dropped": "True"}
    within = pair | {"kind": "near", "twin_split": "train", "dropped": "False"}
    left = within | {"twin_split": "val"}
    contradiction = pair | {"twin_label": "b"}
    assert findings.telling_pairs([pair, within, left, contradiction]) == [left, contradiction]
    said = "Pairs of images: 1 equal, 1 much alike, 1 dropped."
    assert findings.on_duplicates([pair, within], 0) == f"{said} None is of two classes or was left in two splits."
    assert findings.on_duplicates([pair, within], 1) == said
    assert findings.on_duplicates([], 0) == "No two images are alike."


def test_a_class_without_test_images_has_no_part_in_what_is_said() -> None:
    empty = replace(DATA, classes=COUNTS | {"owl": {"train": 20}})
    assert plain(findings.on_guess(findings.majority_guess(empty, TEST), 0.5)).endswith("would give 0 %.")
