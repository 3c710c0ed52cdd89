"""Compare two models on the same images: is one better on images of this kind, or could that be chance?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgpipe.evaluate.intervals import CHUNK, RESAMPLES, TAILS, balanced_accuracy, f1_macro
from imgpipe.model.randomness import generator

Array = np.ndarray[Any, Any]

BETTER, WORSE, NOT_DISTINGUISHABLE = "better", "worse", "not distinguishable"


@dataclass(frozen=True)
class Predictions:
    """What a classifier predicted for each image."""

    predicted: Array
    """The predicted classes, int64 (images,)."""

    losses: Array
    """The cross-entropy of each image, float64 (images,)."""


@dataclass(frozen=True)
class Difference:
    """A metric of two classifiers."""

    a: float
    b: float

    difference: float
    """How much more B has than A."""

    low: float
    """The lower end of the difference's 95 % interval."""

    high: float
    """The upper end of the difference's 95 % interval."""


@dataclass(frozen=True)
class Comparison:
    """How B compares with A."""

    metrics: dict[str, Difference]
    """By the names of the metrics."""

    only_a_right: int
    """Images that A got right and B wrong."""

    only_b_right: int
    """Images that B got right and A wrong."""

    p_value: float
    """Of McNemar's exact test on the images that only one of them got right; where images have groups, of its form for
    groups."""

    predictions_differ: int
    """Images for which the two predicted different classes, whether one of them is right or none."""


def compare(actual: Array, a: Predictions, b: Predictions, groups: Array) -> Comparison:
    """Compare the metrics of A and B, and test whether the accuracies differ by more than chance.

    actual: the true classes, int64 (images,), at least one.
    groups: number of the group of each image, int64 (images,); where all are independent, each is a group of its own.
    """
    right_a, right_b = a.predicted == actual, b.predicted == actual
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    gained = np.zeros(groups.max() + 1, dtype=np.int64)
    np.add.at(gained, groups, right_b.astype(np.int64) - right_a)
    return Comparison(
        metrics=differences(actual, a, b, groups),
        only_a_right=only_a,
        only_b_right=only_b,
        p_value=sign_flips(gained),
        predictions_differ=int((a.predicted != b.predicted).sum()),
    )


def sign_flips(gained: Array) -> float:
    """Return the two-sided p-value of the exact test that flips the sign of what each group gained.

    If A and B were alike, each group could as well have gained what it lost: of all ways to choose the signs, the share
    in which the sum is as far from 0 as it is (Fisher 1935; Good 2005, section 3.2.1). Of groups of a single image it
    is McNemar's exact test.

    gained: images of each group that only B got right, less those that only A did, int64 (groups,).

    >>> sign_flips(np.array([1, 1, 1, -1])), sign_flips(np.array([2, 1, 1])), sign_flips(np.array([2, 2]))
    (0.625, 0.25, 0.5)
    """
    if np.abs(gained).max(initial=0) <= 1:
        return mcnemar(int((gained < 0).sum()), int((gained > 0).sum()))
    sizes = np.abs(gained[gained != 0])
    most = int(sizes.sum())
    chances = np.zeros(2 * most + 1)  # of each sum from -most to most
    chances[most] = 1
    for size in sizes:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2  # the ends are still 0
    return float(min(1.0, chances[np.abs(np.arange(-most, most + 1)) >= abs(int(gained.sum()))].sum()))


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Sources: McNemar 1947; of the exact test Fagerland, Lydersen and Laake 2013, section 2.

    Twice the chance that of ``only_a + only_b`` fair coins at most the lesser number falls on its side; 1 at most. In
    whole numbers, rounded once at the end; scipy.stats.binomtest gives the same and takes a second to import.

    >>> mcnemar(0, 5), mcnemar(5, 0), mcnemar(3, 3), mcnemar(0, 0)
    (0.0625, 0.0625, 1.0, 1.0)
    """
    coins = only_a + only_b
    ways = total = 1  # to choose k of the coins; to choose k or fewer
    for k in range(min(only_a, only_b)):
        ways = ways * (coins - k) // (k + 1)
        total += ways
    return float(min(2 * total, 1 << coins) / (1 << coins))


def differences(actual: Array, a: Predictions, b: Predictions, groups: Array) -> dict[str, Difference]:
    """Return accuracy, balanced_accuracy, f1_macro and loss of both, with the 95 % intervals of the differences.

    The interval is that between the percentiles of the paired bootstrap (Efron and Tibshirani 1993, chapter 13): a
    resample takes the predictions of both for the same images, whole groups of them. The same arguments always give the
    same numbers.
    """
    metrics_a, metrics_b = _metrics(actual, a), _metrics(actual, b)
    once = np.ones((1, len(actual)))
    value_a, value_b = (
        {name: float(of[0]) for name, of in metrics(once).items()} for metrics in (metrics_a, metrics_b)
    )
    random, count, run = generator("bootstrap", 2), groups.max() + 1, max(1, CHUNK // len(actual))
    parts = []
    for start in range(0, RESAMPLES, run):
        rows = min(run, RESAMPLES - start)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)[:, groups].astype(np.float64)
        of_a, of_b = metrics_a(times), metrics_b(times)
        parts.append({name: of_b[name] - of_a[name] for name in of_a})
    result = {}
    for name in value_a:
        resampled = np.concatenate([part[name] for part in parts])
        low, high = np.quantile(resampled, TAILS)
        result[name] = Difference(value_a[name], value_b[name], value_b[name] - value_a[name], float(low), float(high))
    return result


def _metrics(actual: Array, predictions: Predictions) -> Callable[[Array], dict[str, Array]]:
    """Return a function that computes each metric of resamples.

    It takes how often each image was drawn, float64 (resamples, images), and returns float64 (resamples,) each.
    """
    # but for the loss they are functions of how many images of each class were taken for which
    (truth, said), cell = np.unique(np.stack([actual, predictions.predicted]), axis=1, return_inverse=True)
    cell, cells = cell.ravel(), len(truth)

    def metrics(times: Array) -> dict[str, Array]:
        rows, images = len(times), times.sum(axis=1)
        places = cell + cells * np.arange(rows)[:, None]
        counts = np.bincount(places.ravel(), weights=times.ravel(), minlength=rows * cells).reshape(rows, cells)
        return {
            "accuracy": counts @ (said == truth) / images,
            "balanced_accuracy": balanced_accuracy(truth, said, counts),
            "f1_macro": f1_macro(truth, said, counts),
            "loss": times @ predictions.losses / images,
        }

    return metrics
