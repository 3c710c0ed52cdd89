"""Two classifiers on the same test images: is one better, or could that be chance?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgpipe.evaluate.intervals import CHUNK, LEVEL, RESAMPLES, TAILS, balanced_accuracy, f1_macro
from imgpipe.model.randomness import generator

Array = np.ndarray[Any, Any]

BETTER, WORSE, NOT_DISTINGUISHABLE = "better", "worse", "not distinguishable"


@dataclass(frozen=True)
class Answers:
    """What a classifier said: the predicted classes, int64 (images,), and the losses, float64 (images,)."""

    predicted: Array
    losses: Array


@dataclass(frozen=True)
class Difference:
    """A metric of A and of B, how much more B has, and the ends of the 95 % interval of that."""

    a: float
    b: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """B against A. ``p_value`` is that of McNemar's exact test on the images that only one of them got right.

    predictions_differ: images that got two answers, one of them right or none.
    """

    verdict: str
    metrics: dict[str, Difference]
    only_a_right: int
    only_b_right: int
    p_value: float
    predictions_differ: int


def compare(actual: Array, a: Answers, b: Answers) -> Comparison:
    """Whether B is better than A, by the accuracy. actual: the true classes, int64 (images,), at least one."""
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
    """The two-sided p-value of McNemar's exact test (1947; exact: Fagerland, Lydersen and Laake 2013, section 2).

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


def differences(actual: Array, a: Answers, b: Answers) -> dict[str, Difference]:
    """accuracy, balanced_accuracy, f1_macro and loss, with 95 % intervals of their differences.

    The interval is that between the percentiles of the paired bootstrap (Efron and Tibshirani 1993, chapter 13): a
    resample takes the answers of both to the same images. The same arguments always give the same numbers.
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


def _metrics(actual: Array, answers: Answers) -> Callable[[Array], dict[str, Array]]:
    """A function from resamples, places of images, int64 (resamples, images), to each metric of theirs."""
    # but for the loss they are functions of how many images of each class were taken for which
    (truth, said), cell = np.unique(np.stack([actual, answers.predicted]), axis=1, return_inverse=True)
    cell, cells = cell.ravel(), len(truth)

    def metrics(drawn: Array) -> dict[str, Array]:
        rows = len(drawn)
        places = cell[drawn] + cells * np.arange(rows)[:, None]
        counts = np.bincount(places.ravel(), minlength=rows * cells).reshape(rows, cells)
        return {
            "accuracy": counts @ (said == truth) / len(actual),
            "balanced_accuracy": balanced_accuracy(truth, said, counts),
            "f1_macro": f1_macro(truth, said, counts),
            "loss": answers.losses[drawn].mean(axis=1),
        }

    return metrics
