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
    assert intervals.mean_interval(values, None) == pytest.approx(tuple(expected), abs=0.02)


def test_without_skew_a_mean_s_interval_is_student_s() -> None:
    """But for the variance, whose divisor is that of the population."""
    values = np.append(np.arange(10.0), -np.arange(10.0))
    expected = stats.t.interval(0.95, 19, loc=0, scale=stats.sem(values, ddof=0))
    assert intervals.mean_interval(values, None) == pytest.approx(expected)
    tilted = intervals.mean_interval(np.append(values, 0.001), None)
    assert tilted == pytest.approx(
        stats.t.interval(0.95, 20, loc=0, scale=stats.sem(np.append(values, 0), ddof=0)), abs=0.001
    )
    assert intervals.mean_interval(np.ones(5), None) == (1, 1)


def test_a_transformed_mean_is_where_hall_s_formula_puts_student_s_quantiles() -> None:
    """The transformation of the standardised distance from either end to the mean, written out, gives them back."""
    values = np.random.default_rng(0).lognormal(size=50)
    spread, n = values.std(), len(values)
    skew = stats.skew(values)
    for end, quantile in zip(intervals.mean_interval(values, None), stats.t.ppf([0.975, 0.025], n - 1), strict=True):
        t = (values.mean() - end) / spread * sqrt(n)
        hall = t + skew * t**2 / (3 * sqrt(n)) + skew**2 * t**3 / (27 * n) + skew / (6 * sqrt(n))
        assert hall == pytest.approx(quantile)


@pytest.mark.parametrize(("images", "least"), [(100, 0.86), (270, 0.86), (1000, 0.90)])
def test_a_mean_of_very_skewed_losses_is_held_more_often_than_by_a_bootstrap(images: int, least: float) -> None:
    """Lognormal ones, whose logarithms have the deviation 2."""
    random, truth = np.random.default_rng(0), np.exp(2)
    ends = [intervals.mean_interval(random.lognormal(0, 2, size=images), None) for _ in range(2000)]
    assert np.mean([low <= truth <= high for low, high in ends]) >= least


def test_the_balanced_accuracy_of_a_rare_class_is_held_where_a_bootstrap_sees_no_error_of_it() -> None:
    """Of 300 images about 9 are of a class of recall 0.95; a bootstrap alone holds the truth in some 37 of 100."""
    random, held = np.random.default_rng(0), 0
    for _ in range(300):
        labels = (random.random(300) < 0.03).astype(np.int64)
        right = random.random(300) < np.where(labels == 1, 0.95, 0.98)
        low, high = intervals.confusion_intervals(labels, np.where(right, labels, 1 - labels), None)[
            "balanced_accuracy"
        ]
        held += low <= 0.965 <= high
    assert held >= 0.93 * 300


def test_the_interval_of_recalls_is_that_of_the_only_class() -> None:
    labels, predicted = np.zeros(40, dtype=int), (np.arange(40) < 6).astype(int)
    expected = intervals.wilson_interval(34, 40)
    assert intervals.recalls_interval(labels, predicted, None) == pytest.approx(expected)


def test_the_squares_of_the_recalls_distances_to_their_ends_add_up() -> None:
    labels, predicted = np.repeat([0, 1], [40, 10]), np.repeat([0, 1, 1, 0], [34, 6, 9, 1])
    ends = np.array([intervals.wilson_interval(34, 40), intervals.wilson_interval(9, 10)])
    lows, highs = np.abs(ends - [[0.85], [0.9]]).T
    expected = 0.875 - sqrt((lows**2).sum()) / 2, 0.875 + sqrt((highs**2).sum()) / 2
    assert intervals.recalls_interval(labels, predicted, None) == pytest.approx(expected)


def test_intervals_of_f1_and_balanced_accuracy_are_scipy_s_but_for_the_draws() -> None:
    labels, predicted = one_test(np.random.default_rng(3), 150)
    ours = intervals.confusion_intervals(labels, predicted, None)
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
            "accuracy": intervals.share_interval(labels == predicted, None),
            **intervals.confusion_intervals(labels, predicted, None),
            "loss": intervals.mean_interval(random.exponential(size=200), None),
        }
        for name, (low, high) in ends.items():
            held[name] += low <= truth[name] <= high
    # the balanced accuracy's ends are the wider ones of two intervals
    assert all(930 <= count <= (990 if name == "balanced_accuracy" else 970) for name, count in held.items()), held


def test_a_test_without_error_has_an_interval_all_the_same() -> None:
    labels = np.arange(30) % 3
    ends = intervals.confusion_intervals(labels, labels, None)
    low = 1 - (1 - intervals.wilson_interval(10, 10)[0]) / sqrt(3)
    assert ends["balanced_accuracy"] == pytest.approx((low, 1))
    assert list(ends["f1_macro"]) == [1, 1]
    assert intervals.wilson_interval(30, 30)[0] < 0.9
