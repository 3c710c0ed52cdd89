"""Prediction sets: thresholds by hand and by numpy's quantile, and that sets hold the true class as often as asked."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.evaluate.prediction_sets import PERCENTS, images_needed, set_scores, set_thresholds
from imgpipe.model.predict import softmax


def given_to_the_truth(*probabilities: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images of two classes with these probabilities of the true one, which is by turns the first and the second."""
    labels = np.arange(len(probabilities)) % 2
    of_both = np.array([[1 - p, p] if label else [p, 1 - p] for p, label in zip(probabilities, labels, strict=True)])
    return of_both, labels


def random_test(images: int, classes: int = 6) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities that are too sure by half, and labels drawn by those that they should be."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (images, classes))
    labels = (softmax(logits).cumsum(axis=1) < random.random((images, 1))).sum(axis=1)
    return softmax(1.5 * logits), labels


def test_the_threshold_is_the_probability_at_the_place_of_the_coverage() -> None:
    """Nine images: 10 * 0.9 is the ninth and last, 10 * 0.8 the eighth, 10 * 0.75 rounds up to the eighth, too."""
    images = given_to_the_truth(0.5, 0.95, 0.2, 0.9, 0.85, 0.7, 0.8, 0.6, 0.99)
    thresholds = set_thresholds(*images)
    expected = {"0.90": 0.2, "0.81": 0.2, "0.80": 0.5, "0.75": 0.5, "0.71": 0.5, "0.70": 0.6, "0.50": 0.8}
    assert {coverage: thresholds[coverage] for coverage in expected} == expected
    assert list(thresholds) == [f"0.{percent}" for percent in range(50, 91)]


@pytest.mark.parametrize("images", [128, 1024])  # k / n is exact
def test_thresholds_are_the_quantiles_of_the_scores(images: int) -> None:
    """By numpy, of the score 1 - p of the true class, as Angelopoulos and Bates have it."""
    probabilities, labels = random_test(images)
    scores = 1 - probabilities[np.arange(images), labels]
    thresholds = set_thresholds(probabilities, labels)
    assert len(thresholds) == 50
    for percent in PERCENTS:
        share = math.ceil(round((images + 1) * percent / 100, 9)) / images
        quantile = np.quantile(scores, share, method="inverted_cdf")
        assert 1 - thresholds[f"0.{percent}"] == pytest.approx(quantile, abs=1e-12), percent


def test_a_coverage_needs_so_many_images_and_one_fewer_gives_no_threshold() -> None:
    for percent, fewest in ((50, 1), (51, 2), (70, 3), (75, 3), (90, 9), (95, 19), (97, 33), (99, 99)):
        assert images_needed(percent) == fewest
        for images in (fewest - 1, fewest):
            found = set_thresholds(np.full((images, 2), 0.5), np.zeros(images, dtype=int))
            assert (f"0.{percent}" in found) == (images == fewest)


@pytest.mark.parametrize("ties", [False, True])
def test_each_image_left_out_in_turn_is_in_the_others_sets_as_often_as_asked(ties: bool) -> None:
    """All orders of 101 images are as likely, so this share is the probability: ceil(101 * coverage) / 101, no less.

    Where true classes have equal probabilities it may be more.
    """
    probabilities, labels = random_test(101)
    if ties:
        probabilities = probabilities.round(1)
    held = dict.fromkeys(PERCENTS, 0)
    for left_out in range(101):
        others = np.arange(101) != left_out
        thresholds = set_thresholds(probabilities[others], labels[others])
        for percent in PERCENTS:
            held[percent] += probabilities[left_out, labels[left_out]] >= thresholds[f"0.{percent}"]
    expected = {percent: math.ceil(101 * percent / 100) for percent in PERCENTS}
    assert all(held[percent] >= expected[percent] for percent in PERCENTS)
    assert (held == expected) != ties


def test_sets_of_random_splits_hold_the_truth_as_often_as_asked() -> None:
    """Though the probabilities are too sure: the most probable class is right less often than they say."""
    probabilities, labels = random_test(1000)
    assert probabilities.max(axis=1).mean() > (probabilities.argmax(axis=1) == labels).mean() + 0.05
    random = np.random.default_rng(1)
    found = []
    for _ in range(200):
        order = random.permutation(1000)
        val, test = order[:500], order[500:]
        scores = set_scores(probabilities[test], labels[test], set_thresholds(probabilities[val], labels[val]))
        found.append([scores["set_coverage_90"], scores["set_size_90"]])
    coverage, size = np.array(found, dtype=float).mean(axis=0)
    assert 0.895 < coverage < 0.91
    assert 1 < size < 6


def test_sets_are_scored_by_hand() -> None:
    """At 0.2: sets of one class, of two and of three, the last two with the true one; an equal probability is in."""
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.5, 0.3, 0.2]])
    scores = set_scores(probabilities, np.array([1, 1, 2]), {"0.90": 0.2, "0.91": 0.0})
    assert scores == {"set_coverage_90": 0.666667, "set_size_90": 2.0}
    assert set(set_scores(probabilities, np.array([1, 1, 2]), {"0.89": 0.2}).values()) == {None}
