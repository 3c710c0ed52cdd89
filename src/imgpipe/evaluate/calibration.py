"""Turn logits into confidence that means what it says, measure how far it does, and set a threshold on it."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
"""The bounds of a fitted temperature."""

BINS = 15
"""Bins of the confidence in which calibration is measured, as many as Guo et al. 2017 take."""

THRESHOLDS = np.arange(0, 101) / 100
"""Thresholds on the confidence at which the curves have a point."""


def fit_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """Fit the temperature: the number by which to divide logits so that the cross-entropy is least.

    It changes no prediction, only how sure each one is (Guo et al. 2017, On Calibration of Modern Neural Networks,
    section 4.2). To the summed cross-entropy comes half the square of the temperature's logarithm: the most probable
    temperature a posteriori, where a priori its logarithm is normal with mean 0 and deviation 1. Of many images that is
    next to nothing; without it a few that are all right would make the model as good as certain of everything.

    logits: (images, classes), of images that were not trained on.
    labels: true classes, (images,).

    Returns a number from LOWEST_TEMPERATURE to HIGHEST_TEMPERATURE.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        inverse = math.exp(log_inverse)
        weights = np.exp(inverse * shifted)
        expected = (weights * shifted).sum(axis=1) / weights.sum(axis=1)
        return float((expected - own).sum()) * inverse + log_inverse

    sharpest, flattest = -math.log(LOWEST_TEMPERATURE), -math.log(HIGHEST_TEMPERATURE)
    if slope(sharpest) <= 0:
        return LOWEST_TEMPERATURE
    if slope(flattest) >= 0:
        return HIGHEST_TEMPERATURE
    return math.exp(-float(brentq(slope, flattest, sharpest)))


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Compare confidence and accuracy in BINS bins of equal width (Guo et al. 2017, section 2).

    A bin holds confidences above its low end, up to its high end. Bins without images are left out.

    probabilities: (images, classes), rows of sum 1.
    labels: true classes, (images,).

    Returns columns of a number for each bin: its ends ``low`` and ``high``, the number of its images, ``pictures``,
    their mean ``confidence``, and their ``accuracy``.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    ends = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(ends, confidence, side="left") - 1, 0, BINS - 1)
    images = np.bincount(place, minlength=BINS)
    filled = np.flatnonzero(images)

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(place, weights=values, minlength=BINS)
        return np.asarray(sums[filled] / images[filled])

    return {
        "low": ends[filled],
        "high": ends[filled + 1],
        "pictures": images[filled],
        "confidence": means(confidence),
        "accuracy": means(right.astype(np.float64)),
    }


def expected_calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean distance of confidence and accuracy over the bins of ``reliability``, weighted by their images.

    Source: Guo et al. 2017, section 2.
    """
    bins = reliability(probabilities, labels)
    return float((bins["pictures"] * np.abs(bins["confidence"] - bins["accuracy"])).sum() / len(labels))


def scores_at_thresholds(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Score a model that answers only where its confidence is at least a threshold, for each of THRESHOLDS.

    confidence: of the prediction for each image, (images,).
    right: whether that prediction is right, (images,).

    Returns columns of a number for each threshold: the ``threshold``, ``coverage``, the share of the images that are
    answered, ``precision``, the share of the answers that are right, NaN where there are none, ``recall``, right
    answers as a share of all images, and their ``f1``.
    """
    answered = confidence >= THRESHOLDS[:, None]
    answers, right_answers = answered.sum(axis=1), (answered & right).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return {
            "threshold": THRESHOLDS,
            "coverage": answers / len(right),
            "precision": right_answers / answers,
            "recall": right_answers / len(right),
            "f1": 2 * right_answers / (answers + len(right)),
        }


def threshold_for_precision(
    precision: float, confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[float, float] | None:
    """Find the lowest threshold on the confidence from which on answers have a precision.

    precision: the share of the answers that must be right.
    confidence: of the prediction for each image, (images,).
    right: whether that prediction is right, (images,).

    Returns the threshold and its coverage, the share of the images that are answered; None where no threshold will do.

    >>> threshold_for_precision(1.0, np.array([0.9, 0.8, 0.6]), np.array([True, True, False]))
    (0.8, 0.6666666666666666)
    """
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    reached = np.cumsum(right[order]) / np.arange(1, len(right) + 1) >= precision
    last_of_equals = np.append(falling[1:] < falling[:-1], True)
    places = np.flatnonzero(reached & last_of_equals)
    return (float(falling[places[-1]]), (int(places[-1]) + 1) / len(right)) if len(places) else None
