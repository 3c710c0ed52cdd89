"""95 % intervals, against scipy's and against what other test sets would have shown."""

from functools import partial
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score

from imgpipe.evaluate import intervals

PRIORS = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
RECALLS = np.array([0.9, 0.8, 0.85, 0.7, 0.75])
CONFUSION = np.where(np.eye(5, dtype=bool), RECALLS[:, None], (1 - RECALLS[:, None]) / 4)


def test_an_accuracy_s_interval_is_wilson_s_formula() -> None:
    z, p, n = 1.959964, 267 / 270, 270
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    assert intervals.wilson_interval(267, 270) == pytest.approx((middle - half, middle + half), abs=1e-6)
    low, high = intervals.wilson_interval(270, 270)
    assert low == pytest.approx(270 / (270 + z * z), abs=1e-6)
    assert high == pytest.approx(1)


@pytest.mark.parametrize("images", [1, 10, 270])
def test_an_accuracy_s_interval_is_scipy_s(images: int) -> None:
    for right in range(images + 1):
        expected = stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
        assert intervals.wilson_interval(right, images) == pytest.approx(tuple(expected), abs=1e-12)


def test_a_mean_s_interval_is_scipy_s_but_for_the_draws() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert intervals.mean_interval(values) == pytest.approx(tuple(expected), abs=0.01)


def test_intervals_of_f1_and_balanced_accuracy_are_scipy_s_but_for_the_draws() -> None:
    labels, predicted = one_test(np.random.default_rng(3), 150)
    ours = intervals.confusion_intervals(labels, predicted)
    for name, metric in {
        "balanced_accuracy": balanced_accuracy_score,
        "f1_macro": partial(f1_score, average="macro"),
    }.items():
        expected = stats.bootstrap(
            (labels, predicted), metric, paired=True, vectorized=False, n_resamples=1000, method="BCa", rng=1
        ).confidence_interval
        assert ours[name] == pytest.approx(tuple(expected), abs=0.015)


@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_of_cells_are_scikit_learn_s_of_images(seed: int) -> None:
    labels, predicted = one_test(np.random.default_rng(seed), 40)
    (actual, guessed), counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    expected = f1_score(labels, predicted, average="macro", zero_division=0)
    assert intervals.f1_macro(actual, guessed, counts[None]) == pytest.approx(expected)
    assert intervals.balanced_accuracy(actual, guessed, counts[None]) == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )


def one_test(random: np.random.Generator, images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw labels and predictions of a test set from PRIORS and CONFUSION."""
    cells = random.choice(25, size=images, p=(PRIORS[:, None] * CONFUSION).ravel())
    return cells // 5, cells % 5


def test_intervals_hold_the_truth_of_95_in_100_simulated_test_sets() -> None:
    """1,000 of them; the truth is that of all images there could be."""
    joint = (PRIORS[:, None] * CONFUSION).ravel()[None]
    actual, guessed = np.divmod(np.arange(25), 5)
    truth = {
        "accuracy": float(PRIORS @ RECALLS),
        "balanced_accuracy": float(RECALLS.mean()),
        "f1_macro": float(intervals.f1_macro(actual, guessed, joint)[0]),
        "loss": 1.0,
    }
    held = dict.fromkeys(truth, 0)
    random = np.random.default_rng(0)
    for _ in range(1000):
        labels, predicted = one_test(random, 500)
        ends = {
            "accuracy": intervals.wilson_interval(int((labels == predicted).sum()), 500),
            **intervals.confusion_intervals(labels, predicted),
            "loss": intervals.mean_interval(random.exponential(size=200)),
        }
        for name, (low, high) in ends.items():
            held[name] += low <= truth[name] <= high
    assert all(930 <= count <= 970 for count in held.values()), held


def test_a_test_without_error_has_an_interval_all_the_same() -> None:
    labels = np.arange(30) % 3
    assert intervals.confusion_intervals(labels, labels) == {"balanced_accuracy": (1, 1), "f1_macro": (1, 1)}
    assert intervals.wilson_interval(30, 30)[0] < 0.9
