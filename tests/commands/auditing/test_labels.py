"""Confident learning on examples worked out by hand, and on real images of which some are labelled wrong on purpose."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imgpipe.commands.auditing.labels import audit_labels

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.7, 0.2, 0.1],
        [0.2, 0.8, 0.0],  # labelled 0, as sure to be 1 as the images labelled so are
        [0.1, 0.8, 0.1],
        [0.3, 0.6, 0.1],  # 1, but less sure than the images labelled so are
        [0.1, 0.1, 0.8],
        [0.62, 0.08, 0.3],  # labelled 2, as sure to be 0
        [0.4, 0.3, 0.3],  # labelled 2, most probably 0, but less sure
    ]
)
# thresholds: (0.9 + 0.7 + 0.2) / 3, (0.8 + 0.6) / 2, (0.8 + 0.3 + 0.3) / 3


def test_a_threshold_is_the_mean_probability_of_a_class_on_the_images_labelled_so() -> None:
    assert audit_labels(LABELS, PROBABILITIES).thresholds == pytest.approx([0.6, 0.7, 1.4 / 3])


def test_images_count_for_the_class_whose_threshold_they_reach() -> None:
    audit = audit_labels(LABELS, PROBABILITIES)
    assert np.flatnonzero(audit.counted).tolist() == [2, 6]
    assert audit.suggested[[2, 6, 7]].tolist() == [1, 0, 0]


def test_the_joint_counts_are_scaled_to_the_images_of_each_label() -> None:
    """Counted are 2, 1, 0 of the three labelled 0; 0, 1, 0 of the two labelled 1; 1, 0, 1 of the three labelled 2."""
    audit = audit_labels(LABELS, PROBABILITIES)
    assert audit.joint == pytest.approx(np.array([[2, 1, 0], [0, 2, 0], [1.5, 0, 1.5]]))
    assert audit.estimate == pytest.approx(2.5)


def test_the_worst_come_first_and_those_that_do_not_count_last() -> None:
    audit = audit_labels(LABELS, PROBABILITIES)
    assert audit.scores[[2, 6, 7]] == pytest.approx([(0.2 - 0.8 + 1) / 2, (0.3 - 0.62 + 1) / 2, (0.3 - 0.4 + 1) / 2])
    assert audit.worst_first.tolist() == [2, 6, 7]
    # a wider margin that reaches no threshold still comes after those that do
    wider = PROBABILITIES.copy()
    wider[7] = [0.55, 0.44, 0.01]  # thresholds of 2 fall to 0.37
    audit = audit_labels(LABELS, wider)
    assert audit.scores[7] < audit.scores[6]
    assert audit.worst_first.tolist() == [2, 6, 7]


def test_of_two_classes_whose_thresholds_are_reached_the_more_probable_one_counts() -> None:
    """Thresholds: 0.5 of 0, 0.4 of 1, 0.45 of 2. The last image reaches those of 1 and 2 and is labelled 0."""
    probabilities = np.array([[0.92, 0.04, 0.04], [0.3, 0.4, 0.3], [0.3, 0.25, 0.45], [0.08, 0.42, 0.5]])
    audit = audit_labels(np.array([0, 1, 2, 0]), probabilities)
    assert audit.thresholds == pytest.approx([0.5, 0.4, 0.45])
    assert (audit.counted[3], audit.suggested[3], audit.joint[0, 1], audit.joint[0, 2]) == (True, 2, 0, 1)


def test_a_class_that_counts_need_not_be_the_most_probable_one() -> None:
    """Of a class of which the model is seldom sure little is enough; threshold 0.95 of 1, 0.4 of 2."""
    probabilities = np.array([[1.0, 0.0, 0.0], [0.0, 0.95, 0.05], [0.3, 0.3, 0.4], [0.0, 0.55, 0.45]])
    audit = audit_labels(np.array([0, 1, 2, 0]), probabilities)
    assert (audit.counted[3], audit.suggested[3]) == (True, 2)


def test_a_label_that_is_the_most_probable_class_is_never_in_doubt() -> None:
    """The last image reaches the threshold of 1, 0.4, not that of 0, 0.8, but is still more probably 0."""
    probabilities = np.array([[1.0, 0.0], [0.6, 0.4], [0.9, 0.1], [0.5, 0.5]])
    audit = audit_labels(np.array([0, 1, 0, 0]), probabilities)
    assert audit.thresholds == pytest.approx([0.8, 0.4])
    assert audit.worst_first.tolist() == [1]
    assert not audit.counted[3]
    assert audit.joint.tolist() == [[2, 1], [0, 1]]


def test_a_class_without_images_is_what_no_image_looks_like() -> None:
    probabilities = np.array([[0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.6, 0.2, 0.2]])
    audit = audit_labels(np.array([0, 0, 2]), probabilities)
    assert audit.thresholds[1] == np.inf
    assert audit.joint[1].tolist() == audit.joint[:, 1].tolist() == [0, 0, 0]


def test_of_digits_labelled_wrong_on_purpose_most_are_found() -> None:
    scans, truth = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    flipped = random.choice(len(truth), 90, replace=False)
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + random.integers(1, 10, 90)) % 10
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=200))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    audit = audit_labels(labels, cross_val_predict(model, scans, labels, cv=folds, method="predict_proba"))
    assert len({*audit.worst_first[:90].tolist()} & {*flipped.tolist()}) >= 75
    assert 70 <= audit.estimate <= 130
