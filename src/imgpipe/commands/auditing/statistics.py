"""Compute whether the accuracy on a slice differs from that on the other images by more than chance."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import fisher_exact

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]


def difference_p_value(right: Mask, inside: Mask, groups: Numbers | None) -> float:
    """Return the two-sided p-value of no difference between the accuracies in a slice and on the other images.

    Without groups it is that of Fisher's exact test. With groups it is that of a t test with the variance between
    groups (cluster-robust; Liang and Zeger 1986) and as many degrees of freedom as the side of fewer groups has, less
    one; or Fisher's where that is larger, since a side on which all are right shows no variance.

    right: which predictions are right, (images,).
    inside: which images are in the slice, (images,); some, not all.
    groups: the number of each image's group, (images,), of two at least on either side; None where images are
        independent.
    """
    table = [[(right & side).sum(), (~right & side).sum()] for side in (inside, ~inside)]
    exact = float(fisher_exact(table).pvalue)
    if groups is None:
        return exact
    difference = right[inside].mean() - right[~inside].mean()
    # how much each group moves the difference; one with images on both sides moves it on both
    moves: Any = 0.0
    for side, sign in ((inside, 1), (~inside, -1)):
        count = count_groups(groups[side])
        deviation = np.where(side, right - right[side].mean(), 0.0) / side.sum()
        moves = moves + sign * sqrt(count / (count - 1)) * _sums(deviation, groups)
    error = sqrt((moves**2).sum())
    degrees = min(count_groups(groups[side]) for side in (inside, ~inside)) - 1
    clustered = 2 * float(stdtr(degrees, -abs(difference) / error)) if error > 0 else 0.0
    return max(exact, clustered)


def count_groups(groups: Numbers) -> int:
    """Return of how many groups the images of these numbers are."""
    return int(np.count_nonzero(np.bincount(groups)))


def _sums(values: NDArray[Any], groups: Numbers) -> NDArray[np.float64]:
    """Return the sum of the values of each group, by its number."""
    return np.asarray(np.bincount(groups, values), dtype=np.float64)
