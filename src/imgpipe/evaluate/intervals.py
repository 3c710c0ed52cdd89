"""95 % confidence intervals: how far a metric would move with other test images of the same kind."""

from collections.abc import Callable
from typing import Any

import numpy as np

from imgpipe.model.randomness import generator

Array = np.ndarray[Any, Any]
Ends = tuple[float, float]

RESAMPLES = 2000
LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
CHUNK = 2**22
"""Numbers that are worked on at once."""


def wilson(right: int, images: int) -> Ends:
    """Of a proportion such as the accuracy (Wilson 1927): it holds near 1, too, where a bootstrap sees no error."""
    from scipy.stats import binomtest

    ends = binomtest(right, images).proportion_ci(LEVEL, method="wilson")
    return float(ends.low), float(ends.high)


def of_mean(values: Array) -> Ends:
    """Of the mean of one number for each image, float64 (images,).

    A bootstrap without resamples: ABC, which approximates BCa (see ``_corrected``) by a formula. A mean has neither
    bias nor curvature, so that all of it is the skew (Efron and Tibshirani 1993, section 14.4).
    """
    from scipy.stats import norm

    mean = values.mean()
    squares = ((values - mean) ** 2).sum()
    skew = ((values - mean) ** 3).sum() / (6 * squares**1.5) if squares > 0 else 0.0
    reach = skew + norm.ppf(TAILS)
    low, high = mean + np.sqrt(squares) / len(values) * reach / (1 - skew * reach) ** 2
    return float(low), float(high)


def of_confusion(labels: Array, predicted: Array) -> dict[str, Ends]:
    """Of balanced_accuracy and f1_macro, by the bootstrap.

    labels, predicted: int64 (images,). Both metrics are functions of how many images of each class were taken for
    which, so whole cells of the confusion matrix are resampled and not images.
    """
    (actual, guessed), counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    metrics = {"balanced_accuracy": balanced_accuracy, "f1_macro": f1_macro}
    n, cells = len(labels), len(counts)
    random = generator("bootstrap", 1)
    run = max(1, CHUNK // cells)
    starts = range(0, RESAMPLES, run)
    drawn = [random.multinomial(n, counts / n, size=min(run, RESAMPLES - start)) for start in starts]
    without_one = [
        counts - (np.arange(cells) == np.arange(start, min(start + run, cells))[:, None])
        for start in range(0, cells, run)
    ]

    def values(of: Callable[[Array, Array, Array], Array], some: list[Array]) -> Array:
        return np.concatenate([of(actual, guessed, part) for part in some])

    return {
        name: _corrected(
            values(metric, drawn), float(metric(actual, guessed, counts[None])[0]), values(metric, without_one), counts
        )
        for name, metric in metrics.items()
    }


def balanced_accuracy(actual: Array, guessed: Array, counts: Array) -> Array:
    """Mean recall of the classes that have images, float64 (resamples,).

    actual, guessed: classes of each cell of the confusion matrix, int64 (cells,), sorted by the first. counts: images
    in it, (resamples, cells).
    """
    images, right = _by(actual, counts), _by(actual, counts * (actual == guessed))
    return _mean_of_shares(right, images)


def f1_macro(actual: Array, guessed: Array, counts: Array) -> Array:
    """Mean F1 of the classes that have images or were predicted; arguments and result as of balanced_accuracy."""
    classes = np.union1d(actual, guessed)
    own = actual == guessed
    # a class counts once for each image of it, once for each prediction of it
    sums = np.zeros((len(counts), len(classes)))
    for sides in (actual, guessed):
        order = np.argsort(sides, kind="stable")
        sums[:, np.isin(classes, sides)] += _by(sides[order], counts[:, order])
    right = np.zeros_like(sums)
    right[:, np.searchsorted(classes, actual[own])] = counts[:, own]
    return _mean_of_shares(2 * right, sums)


def _mean_of_shares(parts: Array, wholes: Array) -> Array:
    """Mean over the classes of part / whole, but for those whose whole is 0; (resamples, classes) to (resamples,)."""
    shares = np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0)
    return np.asarray(shares.sum(axis=1) / np.maximum((wholes > 0).sum(axis=1), 1))


def _by(sides: Array, counts: Array) -> Array:
    """Sums of the counts of each class of ``sides``, which is sorted: (resamples, classes)."""
    starts = np.flatnonzero(np.append(True, sides[1:] != sides[:-1]))
    return np.asarray(np.add.reduceat(counts, starts, axis=1), dtype=np.float64)


def _corrected(resampled: Array, value: float, without_one: Array, weights: Array) -> Ends:
    """Quantiles of a bootstrap, corrected for bias and skew: BCa (Efron 1987, section 2 and equation 7.3 for the skew).

    without_one: the metric with one image left out. weights: how many images each of these stands for.
    """
    from scipy.stats import norm

    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    if not 0 < below < 1:  # never another value, such as without any error
        return float(resampled.min()), float(resampled.max())
    bias = norm.ppf(below)
    distance = np.average(without_one, weights=weights) - without_one
    spread = (weights * distance**2).sum() ** 1.5
    skew = (weights * distance**3).sum() / (6 * spread) if spread > 0 else 0.0
    reach = bias + norm.ppf(TAILS)
    places = norm.cdf(bias + reach / (1 - skew * reach))
    low, high = np.quantile(resampled, places)
    return float(low), float(high)
