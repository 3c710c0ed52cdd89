"""Turn logits into confidence that means what it says, measure how far it does, and set a threshold on it."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv

from imgpipe.evaluate.intervals import CHUNK, Groups, effective_images
from imgpipe.model.randomness import generator

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
"""The bounds of a fitted temperature."""

BINS = 15
"""Bins of the confidence in which calibration is measured, as many as Guo et al. 2017 take."""

NULL_DRAWS = 1000
"""How often labels are drawn from the probabilities, to see what calibration error comes by chance."""

RISK = 0.05
"""The share of validation splits whose threshold may miss the wanted precision."""

STEPS = 20
"""Into how many steps a search for the threshold cuts the images that it begins with."""

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


def null_calibration_errors(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the calibration errors that a perfectly calibrated model shows by chance, one for each of NULL_DRAWS.

    Labels are drawn from the probabilities, so that a prediction is right with the probability that is its confidence
    (Vaicenavicius et al. 2019, Evaluating model calibration in classification, section 5).

    probabilities: (images, classes), rows of sum 1.
    """
    confidence = np.sort(probabilities.max(axis=1))
    ends = np.searchsorted(confidence, np.linspace(0, 1, BINS + 1)[1:-1], side="right")
    starts = np.unique(np.append(0, ends[ends < len(confidence)]))
    random, rows = generator("bootstrap", 3), max(1, CHUNK // len(confidence))
    errors = []
    for start in range(0, NULL_DRAWS, rows):
        right = random.random((min(rows, NULL_DRAWS - start), len(confidence))) < confidence
        errors.append(np.abs(np.add.reduceat(right - confidence, starts, axis=1)).sum(axis=1) / len(confidence))
    return np.concatenate(errors)


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


def choose_threshold(
    precision: float, confidence: NDArray[np.float64], right: NDArray[np.bool_], groups: Groups
) -> float | None:
    """Choose the lowest threshold on the confidence that is shown to give answers of a precision.

    Shown is what the lower bound of Clopper and Pearson says. Looking for the lowest threshold among many that pass
    would find some that pass by luck. So tests are in an order that does not depend on them, from the fewest images
    whose bound can reach the precision on, a STEPS-th more of them each time, until the first that fails; and so from
    twice as many on, and four times as many, and the risk is shared out equally among these searches: fixed-sequence
    testing with several starts (Angelopoulos et al. 2021, Learn then Test, section 3).

    precision: the share of the answers that must be right, below 1.
    confidence: of the prediction for each image, (images,), of images that were not trained on.
    right: whether that prediction is right, (images,).
    groups: number of each image's group, (images,), or None. Of images in groups the bound counts the effective number.

    Returns the threshold, rounded down to 6 decimals so that it is reached; None where none is shown to do.
    """
    order = np.argsort(-confidence, kind="stable")
    falling, right = confidence[order], right[order]
    groups = None if groups is None else groups[order]
    answers_from = np.searchsorted(-falling, -falling, side="right")  # equal confidences are answered together
    fewest = math.log(RISK) / math.log(precision)
    if len(right) < fewest:
        return None
    searches = int(math.log2(len(right) / fewest)) + 1
    first = math.ceil(fewest * math.log(RISK / searches) / math.log(RISK))
    answered = 0
    for start in (min(first * 2**search, len(right)) for search in range(searches)):
        for place in range(start, len(right) + 1, max(1, start // STEPS)):
            answers = int(answers_from[place - 1])
            if _precision_bound(right[:answers], groups, RISK / searches) < precision:
                break
            answered = max(answered, answers)
    return math.floor(falling[answered - 1] * 1e6) / 1e6 if answered else None


def _precision_bound(right: NDArray[np.bool_], groups: Groups, risk: float) -> float:
    """Return the lower bound of Clopper and Pearson 1934 of the share that is right, which fails with the risk."""
    images = len(right) if groups is None else effective_images(right, groups[: len(right)])
    hits = float(right.mean()) * images
    return float(betaincinv(hits, images - hits + 1, risk)) if hits else 0.0
