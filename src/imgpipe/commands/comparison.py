"""Compare two classifiers on the same test images: is one better, or could that be chance?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgpipe.evaluate.intervals import CHUNK, LEVEL, RESAMPLES, TAILS, balanced_accuracy, f1_macro
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

    verdict: str
    """BETTER, WORSE or NOT_DISTINGUISHABLE: what B is."""

    metrics: dict[str, Difference]
    """By the names of the metrics."""

    only_a_right: int
    """Images that A got right and B wrong."""

    only_b_right: int
    """Images that B got right and A wrong."""

    p_value: float
    """Of McNemar's exact test on the images that only one of them got right."""

    predictions_differ: int
    """Images for which the two predicted different classes, whether one of them is right or none."""


def compare(actual: Array, a: Predictions, b: Predictions) -> Comparison:
    """Tell whether B is better than A, by the accuracy.

    actual: the true classes, int64 (images,), at least one.
    """
    only_a = int(((a.predicted == actual) & (b.predicted != actual)).sum())
    only_b = int(((a.predicted != actual) & (b.predicted == actual)).sum())
    p_value = mcnemar(only_a, only_b)
    return Comparison(
        verdict=NOT_DISTINGUISHABLE if p_value >= 1 - LEVEL else BETTER if only_b > only_a else WORSE,
        metrics=differences(actual, a, b),
        only_a_right=only_a,
        only_b_right=only_b,
        p_value=p_value,
        predictions_differ=int((a.predicted != b.predicted).sum()),
    )


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


def differences(actual: Array, a: Predictions, b: Predictions) -> dict[str, Difference]:
    """Return accuracy, balanced_accuracy, f1_macro and loss of both, with the 95 % intervals of the differences.

    The interval is that between the percentiles of the paired bootstrap (Efron and Tibshirani 1993, chapter 13): a
    resample takes the predictions of both for the same images. The same arguments always give the same numbers.
    """
    metrics_a, metrics_b = _metrics(actual, a), _metrics(actual, b)
    whole = np.arange(len(actual))[None]
    value_a, value_b = (
        {name: float(of[0]) for name, of in metrics(whole).items()} for metrics in (metrics_a, metrics_b)
    )
    random, run = generator("bootstrap", 2), max(1, CHUNK // len(actual))
    parts = []
    for start in range(0, RESAMPLES, run):
        drawn = random.integers(len(actual), size=(min(run, RESAMPLES - start), len(actual)))
        of_a, of_b = metrics_a(drawn), metrics_b(drawn)
        parts.append({name: of_b[name] - of_a[name] for name in of_a})
    result = {}
    for name in value_a:
        resampled = np.concatenate([part[name] for part in parts])
        low, high = np.quantile(resampled, TAILS)
        result[name] = Difference(value_a[name], value_b[name], value_b[name] - value_a[name], float(low), float(high))
    return result


def _metrics(actual: Array, predictions: Predictions) -> Callable[[Array], dict[str, Array]]:
    """Return a function that computes each metric of resamples.

    It takes the places of the images that were drawn, int64 (resamples, images), and returns float64 (resamples,) each.
    """
    # but for the loss they are functions of how many images of each class were taken for which
    (truth, said), cell = np.unique(np.stack([actual, predictions.predicted]), axis=1, return_inverse=True)
    cell, cells = cell.ravel(), len(truth)

    def metrics(drawn: Array) -> dict[str, Array]:
        rows = len(drawn)
        places = cell[drawn] + cells * np.arange(rows)[:, None]
        counts = np.bincount(places.ravel(), minlength=rows * cells).reshape(rows, cells)
        return {
            "accuracy": counts @ (said == truth) / len(actual),
            "balanced_accuracy": balanced_accuracy(truth, said, counts),
            "f1_macro": f1_macro(truth, said, counts),
            "loss": predictions.losses[drawn].mean(axis=1),
        }

    return metrics
