"""Predictions to numbers: by hand, and by scikit-learn on random cases."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from imgpipe.evaluate import scoring
from imgpipe.evaluate.scoring import all_metrics, threshold_metrics
from imgpipe.model.predict import softmax

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 0, 1, 1, 2])


def random_case(
    seed: int, *, images: int, classes: int, held: int, ties: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Make probabilities that know something of the labels, of which ``held`` classes occur."""
    random = np.random.default_rng(seed)
    labels = np.append(np.arange(held), random.integers(held, size=images - held))
    logits = random.normal(size=(images, classes)) + 1.5 * (labels[:, None] == np.arange(classes))
    return softmax(np.round(logits) if ties else logits), labels


def test_metrics_are_those_worked_out_by_hand() -> None:
    """Predicted 0 0 1 0 2: right 0 0 1 - 2. Precision 2/3, 1, 1; recall 1, 1/2, 1; F1 4/5, 2/3, 1."""
    # ROC of class 0: every pair right but (0.5 of image 1, 0.6 of image 3): 5 of 6; of class 1: pairs of 0.8 and
    # 0.3 against 0.2, 0.3, 0.2: 5 and one tie of 6; of class 2: 4 of 4.
    # Average precision of class 0, falling 0.7 (own) 0.6 0.5 (own): (1 + 2/3) / 2; of class 1, 0.8 (own), then 0.3
    # twice, one of them own: (1 + 2/3) / 2; of class 2: 1.
    # Confidence 0.6 twice (one right), 0.7, 0.5 and 0.8 (all right), each in a bin of its own.
    squares = [0.3**2 + 0.2**2 + 0.1**2, 0.5**2 + 0.3**2 + 0.2**2, 0.1**2 + 0.2**2 + 0.1**2,
               0.6**2 + 0.7**2 + 0.1**2, 0.2**2 + 0.2**2 + 0.4**2]  # fmt: skip
    assert scoring.score(PROBABILITIES, LABELS) == {
        "accuracy": 0.8,
        "balanced_accuracy": pytest.approx(2.5 / 3),
        "precision_macro": pytest.approx((2 / 3 + 1 + 1) / 3),
        "recall_macro": pytest.approx(2.5 / 3),
        "f1_macro": pytest.approx((4 / 5 + 2 / 3 + 1) / 3),
        "precision_weighted": pytest.approx((2 * 2 / 3 + 2 * 1 + 1) / 5),
        "recall_weighted": pytest.approx(0.8),
        "f1_weighted": pytest.approx((2 * 4 / 5 + 2 * 2 / 3 + 1) / 5),
        "roc_auc_ovr_macro": pytest.approx((5 / 6 + 5.5 / 6 + 1) / 3),
        "average_precision_macro": pytest.approx((5 / 6 + 5 / 6 + 1) / 3),
        "loss": pytest.approx(-np.log([0.7, 0.5, 0.8, 0.3, 0.6]).mean()),
        "brier": pytest.approx(np.mean(squares)),
        "ece": pytest.approx((0.3 + 0.5 + 0.2 + 2 * 0.1) / 5),
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("classes", "held"), [(2, 2), (3, 3), (10, 10), (10, 6), (1000, 300)])
def test_metrics_are_scikit_learn_s(classes: int, held: int, ties: bool) -> None:
    probabilities, labels = random_case(classes, images=600, classes=classes, held=held, ties=ties)
    numbers, predicted = scoring.score(probabilities, labels), probabilities.argmax(axis=1)
    truth = np.eye(classes)[labels][:, :held]
    report = metrics.classification_report(labels, predicted, output_dict=True, zero_division=0)
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "precision_macro": report["macro avg"]["precision"],
        "recall_weighted": report["weighted avg"]["recall"],
        "f1_macro": report["macro avg"]["f1-score"],
        "f1_weighted": report["weighted avg"]["f1-score"],
        "roc_auc_ovr_macro": metrics.roc_auc_score(truth, probabilities[:, :held], average="macro"),
        "average_precision_macro": metrics.average_precision_score(truth, probabilities[:, :held], average="macro"),
        "loss": metrics.log_loss(labels, probabilities, labels=range(classes)),
    }
    if classes == held:
        expected["balanced_accuracy"] = metrics.balanced_accuracy_score(labels, predicted)
    if classes == 2:
        expected["brier"] = 2 * metrics.brier_score_loss(labels, probabilities[:, 1])
    assert ("top5_accuracy" in numbers) == (classes > 5)
    if classes > 5 and not ties:
        expected["top5_accuracy"] = metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=range(classes))
    assert {name: numbers[name] for name in expected} == pytest.approx(expected)
    assert numbers["balanced_accuracy"] == pytest.approx(
        np.mean([metrics.recall_score(labels, predicted, labels=[c], average="macro") for c in range(held)])
    )


def test_experiments_are_compared_by_five_values_to_four_decimals_the_accuracy_first() -> None:
    found = all_metrics(PROBABILITIES, PROBABILITIES, LABELS, None, temperature=1.0, threshold=None)
    assert list(scoring.summary(found).items()) == [
        ("accuracy", 0.8),
        ("interval", ".376-.964"),  # Wilson's of 4 of 5: 0.3755 to 0.9638
        ("balanced", 0.8333),
        ("f1", 0.8222),
        ("loss", round(float(-np.log([0.7, 0.5, 0.8, 0.3, 0.6]).mean()), 4)),
    ]


def test_of_equal_probabilities_the_class_of_the_lower_number_ranks_first() -> None:
    probabilities = np.array([[0.4, 0.4, 0.2]] * 3)
    assert scoring.ranks(probabilities, np.array([0, 1, 2])).tolist() == [1, 2, 3]
    probabilities, labels = random_case(1, images=500, classes=10, held=10, ties=True)
    assert ((scoring.ranks(probabilities, labels) == 1) == (probabilities.argmax(axis=1) == labels)).all()


def test_classes_without_test_images_are_left_out_of_the_means_and_undefined_for_themselves() -> None:
    numbers = scoring.score(PROBABILITIES[:4], LABELS[:4])
    assert numbers["balanced_accuracy"] == numbers["recall_macro"] == 0.75
    # of 0.7 0.5 against 0.1 0.6, 3 pairs of 4; of 0.8 0.3 against 0.2 0.3, 3 and a tie
    assert numbers["roc_auc_ovr_macro"] == pytest.approx((3 / 4 + 3.5 / 4) / 2)
    assert set(scoring.roc_curves(PROBABILITIES[:4], LABELS[:4])) == {0, 1}
    assert set(scoring.precision_recall_curves(PROBABILITIES[:4], LABELS[:4])) == {0, 1}
    of_classes = scoring.class_scores(PROBABILITIES[:4], LABELS[:4])
    assert of_classes["support"].tolist() == [2, 2, 0]
    assert {name: values[:2].tolist() for name, values in of_classes.items()} == {
        "support": [2, 2],
        "precision": [pytest.approx(2 / 3), 1.0],
        "recall": [1.0, 0.5],
        "f1": [pytest.approx(4 / 5), pytest.approx(2 / 3)],
        "auroc": [pytest.approx(3 / 4), pytest.approx(3.5 / 4)],
    }
    assert all(np.isnan(of_classes[name][2]) for name in ("precision", "recall", "f1", "auroc"))


def test_a_roc_curve_starts_at_none_and_ends_at_all() -> None:
    false_positives, true_positives = scoring.roc_curves(PROBABILITIES, LABELS)[0]
    assert (false_positives[0], true_positives[0]) == (0, 0)
    assert (false_positives[-1], true_positives[-1]) == (1, 1)
    area = float(np.trapezoid(true_positives, false_positives))
    assert area == pytest.approx(5 / 6)


def test_a_precision_recall_curve_ends_with_every_image_of_the_class_found() -> None:
    recall, precision = scoring.precision_recall_curves(PROBABILITIES, LABELS)[0]
    # falling: 0.7 (own), 0.6, 0.5 (own), then 0.2 and 0.1
    assert {(0.0, 1.0), (0.5, 1.0), (0.5, 0.5), (1.0, 2 / 3)} <= set(zip(recall, precision, strict=True))
    assert (np.diff(recall) >= 0).all()


def test_precision_and_coverage_at_the_threshold_are_counted_with_wilson_s_intervals() -> None:
    """Of confidences 0.9 0.8 0.8 0.6 0.5 three reach 0.8, and two of them are right."""
    confidence, right = np.array([0.9, 0.8, 0.8, 0.6, 0.5]), np.array([True, True, False, True, False])
    numbers = threshold_metrics(0.8, confidence, right, None)
    precision, coverage = (stats.binomtest(*of).proportion_ci(method="wilson") for of in ((2, 3), (3, 5)))
    assert numbers == {
        "threshold_precision": 0.666667,
        "threshold_precision_ci_low": pytest.approx(precision.low, abs=1e-6),
        "threshold_precision_ci_high": pytest.approx(precision.high, abs=1e-6),
        "threshold_coverage": 0.6,
        "threshold_coverage_ci_low": pytest.approx(coverage.low, abs=1e-6),
        "threshold_coverage_ci_high": pytest.approx(coverage.high, abs=1e-6),
    }


def test_without_a_threshold_or_an_answer_there_is_no_precision() -> None:
    confidence, right = np.array([0.9, 0.8]), np.array([True, False])
    nothing = threshold_metrics(None, confidence, right, None)
    assert set(nothing.values()) == {None}
    none_answered = threshold_metrics(0.95, confidence, right, None)
    assert list(none_answered) == list(nothing)
    assert none_answered["threshold_precision"] is None
    assert (none_answered["threshold_coverage"], none_answered["threshold_coverage_ci_low"]) == (0, 0)


def test_groups_are_counted_and_make_intervals_wider() -> None:
    probabilities, labels = random_case(0, images=200, classes=4, held=4, ties=False)
    alone = all_metrics(probabilities, probabilities, labels, None, temperature=1.0, threshold=0.5)
    groups = np.argsort(np.argsort(probabilities.max(axis=1))) // 20  # alike in their confidence, so in being right
    grouped = all_metrics(probabilities, probabilities, labels, groups, temperature=1.0, threshold=0.5)
    assert (alone["groups"], grouped["groups"]) == (None, 10)
    for name in ("accuracy", "loss"):
        widths = [numbers[f"{name}_ci_high"] - numbers[f"{name}_ci_low"] for numbers in (alone, grouped)]  # type: ignore[operator]
        assert widths[1] > 1.3 * widths[0], name
    assert {name for name in alone if alone[name] != grouped[name] and "_ci_" not in name} == {"groups"}


def test_what_can_t_be_said_of_a_split_is_null_and_the_keys_stay_the_same() -> None:
    usual = all_metrics(PROBABILITIES, PROBABILITIES, LABELS, None, temperature=1.0, threshold=0.9)
    alone = all_metrics(PROBABILITIES[3:4], PROBABILITIES[3:4], LABELS[3:4], None, temperature=1.0, threshold=None)
    assert list(alone) == list(usual)
    assert {name for name, value in alone.items() if value is None} == {
        "roc_auc_ovr_macro",
        "f1_macro_ci_low",
        "f1_macro_ci_high",
        "loss_ci_low",
        "loss_ci_high",
        "threshold",
        "groups",
    }
    assert alone["images"] == 1
