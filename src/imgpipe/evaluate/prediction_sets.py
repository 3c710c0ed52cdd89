"""Sets of classes that hold the true one as often as is asked: split conformal prediction."""

import numpy as np
from numpy.typing import NDArray

PERCENTS = range(50, 100)
"""Coverages for which there are sets, in percent."""
SCORED = "0.90"
"""The coverage whose sets the test scores."""


def set_thresholds(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Find the probability that a class must have to be in an image's set, for each coverage.

    The set of a new image holds its true class with a probability of at least the coverage, whatever the model, if that
    image and these could have come in any order (are exchangeable). Of n images the threshold is the k-th highest
    probability that a true class got, k = ceil((n + 1) * coverage); where k is above n, only the set of all classes
    would do. Source: Angelopoulos and Bates 2023, Conformal Prediction: A Gentle Introduction, section 1, whose score
    of a class is 1 less its probability.

    probabilities: (images, classes), of images that the model was not trained on.
    labels: true classes, (images,).

    Returns thresholds by coverage, "0.50" to "0.99", as far as there are images enough.
    """
    falling = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]
    places = {percent: -(-(len(labels) + 1) * percent // 100) for percent in PERCENTS}  # whole numbers: nothing rounds
    return {f"{percent / 100:.2f}": float(falling[k - 1]) for percent, k in places.items() if k <= len(labels)}


def images_needed(percent: int) -> int:
    """Return how many images a threshold for this coverage takes at least: the fewest n for which k is n.

    >>> images_needed(90)
    9
    """
    return -(-percent // (100 - percent))


def set_scores(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], thresholds: dict[str, float]
) -> dict[str, float | None]:
    """Score the sets of test images for a coverage of SCORED.

    probabilities: (images, classes).
    labels: true classes, (images,).
    thresholds: of ``set_thresholds``, found on other images.

    Returns ``set_coverage_90``, the share of the sets that hold the true class, and ``set_size_90``, their mean number
    of classes, rounded to 6 decimals; None where there is no such threshold.
    """
    if SCORED not in thresholds:
        return {"set_coverage_90": None, "set_size_90": None}
    sets = probabilities >= thresholds[SCORED]
    return {
        "set_coverage_90": round(float(sets[np.arange(len(labels)), labels].mean()), 6),
        "set_size_90": round(float(sets.sum(axis=1).mean()), 6),
    }
