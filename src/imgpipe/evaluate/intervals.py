"""Compute 95 % confidence intervals: how far a metric would move with other test images of the same kind.

Where images come in groups, the groups are independent and the images are not: ``groups`` is then the number of each
image's group, (images,), and else None. Of a single group there is no interval: both ends are NaN.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array
from scipy.special import ndtr, ndtri, stdtrit

from imgpipe.model.randomness import generator

LEVEL = 0.95
"""The share of tests whose interval holds the truth."""

TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""The quantiles at the two ends of an interval."""

RESAMPLES = 2000
"""Resamples of a bootstrap."""

MADE_UP = 0.025
"""What a group that is made up counts, as a share of one that there is: see ``effective_images``."""

CHUNK = 2**22
"""The most numbers that are worked on at once, to bound the memory."""


Groups = NDArray[np.int64] | None


def share_interval(hits: NDArray[np.bool_], groups: Groups) -> tuple[float, float]:
    """Return the interval of a share of images, such as the accuracy: Wilson's, of as many images as are independent.

    hits: which of the images count, (images,).
    """
    images = len(hits) if groups is None else effective_images(hits, groups)
    return wilson_interval(float(hits.mean()) * images, images)


def wilson_interval(right: float, images: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion.

    It holds near 1, too, where a bootstrap sees no error. Source: Wilson 1927, by Newcombe 1998, method 3.

    right: how many of the images count.
    """
    p, z = right / images, float(ndtri(TAILS[1]))
    scale = 2 * (images + z**2)
    middle, half = (2 * images * p + z**2) / scale, z / scale * sqrt(4 * images * p * (1 - p) + z**2)
    return 0.0 if right == 0 else middle - half, 1.0 if right == images else middle + half


def effective_images(hits: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    """Return how many independent images tell as much of a share as images in groups do (Kish 1965, section 8.2).

    The share's variance is that of the jackknife, which leaves out one group at a time. Few groups know it roughly,
    which Student's t in the normal's place accounts for (Korn and Graubard 1998). A few that are all right would show
    none at all, though the next might be all wrong, so to them come two that are made up, of mean size: one all right,
    one all wrong, each of which counts MADE_UP of a group. The result is at least what it would be if a group's images
    were all the same, and at most what it would be if they were independent.

    hits: which of the images count, (images,).
    """
    sizes = np.bincount(groups)
    right, sizes = np.bincount(groups, weights=hits)[sizes > 0], sizes[sizes > 0]
    images, count = len(hits), len(sizes)
    fewest = float(images**2 / (sizes**2).sum())
    if count == 1:
        return fewest
    mean_size = images / count
    right, sizes = np.append(right, [mean_size, 0]), np.append(sizes, [mean_size, mean_size])
    weights = np.append(np.ones(count), [MADE_UP, MADE_UP])
    all_images = weights @ sizes
    share = weights @ right / all_images
    variance = (count - 1) / count * (weights @ ((right - share * sizes) / (all_images - sizes)) ** 2)
    few = (ndtri(TAILS[1]) / stdtrit(count - 1, TAILS[1])) ** 2
    return float(np.clip(share * (1 - share) / variance * few, fewest, images))


def mean_interval(values: NDArray[np.float64], groups: Groups) -> tuple[float, float]:
    """Return the interval of the mean of one number for each image.

    Student's t after the transformation that takes out the mean's skew and can be inverted (Hall 1992, On the Removal
    of Skewness by Transformation, section 2).

    values: (images,).
    """
    mean = values.mean()
    apart = values - mean
    if groups is not None:
        sums = np.bincount(groups, weights=apart)
        apart = sums * len(sums) / len(values)
    units = len(apart)
    spread = float(np.sqrt((apart**2).mean()))
    if units == 1 or spread == 0:
        return (np.nan, np.nan) if units == 1 else (float(mean), float(mean))
    skew = float((apart**3).mean()) / spread**3 / sqrt(units)
    reach = stdtrit(units - 1, TAILS[::-1])
    if abs(skew) > 1e-6:  # below that the transformation is the identity, but for rounding
        reach = 3 / skew * (np.cbrt(1 + skew * (reach - skew / 6)) - 1)
    low, high = mean - reach * spread / sqrt(units)
    return float(low), float(high)


def confusion_intervals(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], groups: Groups
) -> dict[str, tuple[float, float]]:
    """Return the intervals of ``balanced_accuracy`` and ``f1_macro``, by the bootstrap.

    Both metrics are functions of how many images of each class were taken for which: of the confusion matrix. What is
    resampled are its cells, an image's each, or the cells of whole groups. The ends of the balanced accuracy are the
    wider ones of these and of ``recalls_interval``, since of a rare class a bootstrap may see no error.

    labels, predicted: classes, (images,).
    """
    (actual, guessed), cell_of, counts = np.unique(
        np.stack([labels, predicted]), axis=1, return_inverse=True, return_counts=True
    )
    cells = len(counts)
    if groups is None:
        drawn, times = eye_array(cells, dtype=np.int64, format="csr"), counts
    else:
        drawn = csr_array((np.ones(len(groups), dtype=np.int64), (groups, cell_of.ravel())))
        times = np.ones(drawn.shape[0], dtype=np.int64)
    kinds, units = len(times), int(times.sum())
    random = generator("bootstrap", 1)
    rows = max(1, CHUNK // max(kinds, cells))
    resamples = [
        random.multinomial(units, times / units, size=min(rows, RESAMPLES - start)) @ drawn
        for start in range(0, RESAMPLES, rows)
    ]
    without_one = [counts - drawn[start : start + rows].toarray() for start in range(0, kinds, rows)]

    def interval(metric: Callable[..., NDArray[np.float64]]) -> tuple[float, float]:
        resampled, jackknifed = (
            np.concatenate([metric(actual, guessed, part) for part in parts]) for parts in (resamples, without_one)
        )
        return _bca_interval(resampled, float(metric(actual, guessed, counts[None])[0]), jackknifed, times)

    low, high = recalls_interval(labels, predicted, groups)
    low_too, high_too = interval(balanced_accuracy)
    return {
        "balanced_accuracy": (float(np.fmin(low, low_too)), float(np.fmax(high, high_too))),
        "f1_macro": interval(f1_macro),
    }


def recalls_interval(labels: NDArray[np.int64], predicted: NDArray[np.int64], groups: Groups) -> tuple[float, float]:
    """Return the interval of the mean of the recalls, from the intervals of each.

    The squares of the distances from the recalls to their ends add up: the method of variance estimates recovery (Zou
    and Donner 2008, section 2). It takes classes for independent of each other, even where a group has several.

    labels, predicted: classes, (images,).
    """
    recalls, ends = [], []
    for c in np.unique(labels):
        own = labels == c
        hits = predicted[own] == c
        recalls.append(hits.mean())
        ends.append(share_interval(hits, None if groups is None else groups[own]))
    middle = np.mean(recalls)
    low, high = np.sqrt(((np.array(ends) - np.array(recalls)[:, None]) ** 2).sum(axis=0)) / len(recalls)
    return float(middle - low), float(middle + high)


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

    Source: Efron 1987, section 2, and equation 7.3 for the skew. With Student's t in the normal's place, since few
    groups would else give too little (Hesterberg 2015, section 4.3).

    resampled: the metric of each resample.
    value: the metric of the test itself.
    without_one: the metric with one image, or one group, left out.
    weights: how many of them each of ``without_one`` stands for.
    """
    units = int(weights.sum())
    if units == 1:
        return np.nan, np.nan
    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    if not 0 < below < 1:  # never another value, such as without any error
        return float(resampled.min()), float(resampled.max())
    bias = ndtri(below)
    distance = np.average(without_one, weights=weights) - without_one
    spread = (weights * distance**2).sum() ** 1.5
    skew = (weights * distance**3).sum() / (6 * spread) if spread > 0 else 0.0
    reach = bias + stdtrit(units - 1, TAILS) * sqrt(units / (units - 1))
    places = ndtr(bias + reach / (1 - skew * reach))
    low, high = np.quantile(resampled, places)
    return float(low), float(high)
