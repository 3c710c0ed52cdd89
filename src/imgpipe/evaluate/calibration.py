"""Confidence that means what it says."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LEAST, MOST = 0.05, 20.0
"""Of a temperature: where all images are right, the best would be 0."""


def fit_temperature(logits: Array, labels: Array) -> float:
    """The number by which to divide logits so that the cross-entropy is least (Guo et al. 2017, section 4.2).

    logits: float (images, classes), of images that were not trained on. labels: int64 (images,). No prediction
    changes. In terms of 1 / temperature the cross-entropy is convex: its slope has one zero, which is bisected.
    """
    from scipy.optimize import brentq

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        weights = np.exp(inverse * shifted)
        expected = (weights * shifted).sum(axis=1) / weights.sum(axis=1)
        return float((expected - own).mean())

    if slope(1 / LEAST) <= 0:
        return LEAST
    if slope(1 / MOST) >= 0:
        return MOST
    return 1 / float(brentq(slope, 1 / MOST, 1 / LEAST))


THRESHOLDS = np.arange(0, 101) / 100


def at_thresholds(confidence: Array, right: Array) -> dict[str, Array]:
    """Coverage, precision, recall and F1 at each of THRESHOLDS, each float64 (101,).

    coverage: share of the images that get an answer. precision: share of the answers that are right; NaN where there
    is none. recall: right answers, as a share of all images. confidence, right: of each image's prediction.
    """
    answered = confidence >= THRESHOLDS[:, None]
    given, good = answered.sum(axis=1), (answered & right).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return {
            "threshold": THRESHOLDS,
            "coverage": given / len(right),
            "precision": good / given,
            "recall": good / len(right),
            "f1": 2 * good / (given + len(right)),
        }


def threshold_for(precision: float, confidence: Array, right: Array) -> tuple[float, float] | None:
    """The lowest confidence from which on answers have this precision, and their coverage; None where none has."""
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    reached = np.cumsum(right[order]) / np.arange(1, len(right) + 1) >= precision
    last_of_equals = np.append(falling[1:] < falling[:-1], True)
    places = np.flatnonzero(reached & last_of_equals)
    return (float(falling[places[-1]]), (int(places[-1]) + 1) / len(right)) if len(places) else None
