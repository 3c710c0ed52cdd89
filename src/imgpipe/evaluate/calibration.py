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
