"""Compute 95 % confidence intervals: how far a metric would move with other test images of the same kind."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from imgpipe.model.randomness import generator

LEVEL = 0.95
"""The share of tests whose interval holds the truth."""

TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""The quantiles at the two ends of an interval."""

RESAMPLES = 2000
"""Resamples of a bootstrap."""

CHUNK = 2**22
"""The most numbers that are worked on at once, to bound the memory."""


def wilson_interval(right: float, images: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion such as the accuracy.

    It holds near 1, too, where a bootstrap sees no error. Source: Wilson 1927, by Newcombe 1998, method 3.

    right: how many of the images count.
    """
    p, z = right / images, float(ndtri(TAILS[1]))
    scale = 2 * (images + z**2)
    middle, half = (2 * images * p + z**2) / scale, z / scale * sqrt(4 * images * p * (1 - p) + z**2)
    return 0.0 if right == 0 else middle - half, 1.0 if right == images else middle + half


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of the mean of one number for each image.

    A bootstrap without resamples: ABC, which approximates BCa (see ``_bca_interval``) by a formula. A mean has neither
    bias nor curvature, so that all of it is the skew (Efron and Tibshirani 1993, section 14.4).

    values: (images,).
    """
    mean = values.mean()
    squares = ((values - mean) ** 2).sum()
    skew = ((values - mean) ** 3).sum() / (6 * squares**1.5) if squares > 0 else 0.0
    reach = skew + ndtri(TAILS)
    low, high = mean + np.sqrt(squares) / len(values) * reach / (1 - skew * reach) ** 2
    return float(low), float(high)


def confusion_intervals(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    """Return the intervals of ``balanced_accuracy`` and ``f1_macro``, by the bootstrap.

    Both metrics are functions of how many images of each class were taken for which, so that whole cells of the
    confusion matrix are resampled and not images.

    labels, predicted: classes, (images,).
    """
    (actual, guessed), counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    images, cells = len(labels), len(counts)
    random = generator("bootstrap", 1)
    rows = max(1, CHUNK // cells)
    resamples = [
        random.multinomial(images, counts / images, size=min(rows, RESAMPLES - start))
        for start in range(0, RESAMPLES, rows)
    ]
    without_one = [
        counts - (np.arange(cells) == np.arange(start, min(start + rows, cells))[:, None])
        for start in range(0, cells, rows)
    ]

    def interval(metric: Callable[..., NDArray[np.float64]]) -> tuple[float, float]:
        resampled, jackknifed = (
            np.concatenate([metric(actual, guessed, part) for part in parts]) for parts in (resamples, without_one)
        )
        return _bca_interval(resampled, float(metric(actual, guessed, counts[None])[0]), jackknifed, counts)

    return {"balanced_accuracy": interval(balanced_accuracy), "f1_macro": interval(f1_macro)}


def balanced_accuracy(
    actual: NDArray[np.int64], guessed: NDArray[np.int64], counts: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the mean recall of the classes that have images, for each of several confusion matrices.

    actual, guessed: classes of each cell that is not empty, (cells,), sorted by ``actual``.
    counts: images in each cell, (matrices, cells).

    Returns an array (matrices,).
    """
    images, right = _sums_by_class(actual, counts), _sums_by_class(actual, counts * (actual == guessed))
    return _mean_of_ratios(right, images)


def f1_macro(actual: NDArray[np.int64], guessed: NDArray[np.int64], counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean F1 of the classes that have images or were predicted, as ``balanced_accuracy`` does."""
    classes = np.union1d(actual, guessed)
    own = actual == guessed
    # a class counts once for each image of it, once for each prediction of it
    sums = np.zeros((len(counts), len(classes)))
    for sides in (actual, guessed):
        order = np.argsort(sides, kind="stable")
        sums[:, np.isin(classes, sides)] += _sums_by_class(sides[order], counts[:, order])
    right = np.zeros_like(sums)
    right[:, np.searchsorted(classes, actual[own])] = counts[:, own]
    return _mean_of_ratios(2 * right, sums)


def _sums_by_class(classes: NDArray[np.int64], counts: NDArray[Any]) -> NDArray[np.float64]:
    """Sum the counts, (matrices, cells), of each class. classes: of each cell, sorted."""
    starts = np.flatnonzero(np.append(True, classes[1:] != classes[:-1]))
    return np.asarray(np.add.reduceat(counts, starts, axis=1), dtype=np.float64)


def _mean_of_ratios(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes, the second axis, of part / whole, without those whose whole is 0."""
    ratios = np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0)
    return np.asarray(ratios.sum(axis=1) / np.maximum((wholes > 0).sum(axis=1), 1))


def _bca_interval(
    resampled: NDArray[np.float64], value: float, without_one: NDArray[np.float64], weights: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the quantiles of a bootstrap at the ends of the interval, corrected for bias and skew: BCa.

    Source: Efron 1987, section 2, and equation 7.3 for the skew.

    resampled: the metric of each resample.
    value: the metric of the test itself.
    without_one: the metric with one image left out.
    weights: how many images each of ``without_one`` stands for.
    """
    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    if not 0 < below < 1:  # never another value, such as without any error
        return float(resampled.min()), float(resampled.max())
    bias = ndtri(below)
    distance = np.average(without_one, weights=weights) - without_one
    spread = (weights * distance**2).sum() ** 1.5
    skew = (weights * distance**3).sum() / (6 * spread) if spread > 0 else 0.0
    reach = bias + ndtri(TAILS)
    places = ndtr(bias + reach / (1 - skew * reach))
    low, high = np.quantile(resampled, places)
    return float(low), float(high)
