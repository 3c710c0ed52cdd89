"""What if an answer is given only where the confidence reaches a threshold."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

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
