"""Find the images whose labels are probably wrong: confident learning.

Source: Northcutt, Jiang and Chuang 2021, Confident Learning, Journal of Artificial Intelligence Research 70.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6
"""By how much a probability may be below a threshold that it reaches: probabilities are stored as float32."""


@dataclass(frozen=True)
class LabelAudit:
    """What confident learning says of the labels."""

    thresholds: NDArray[np.float64]
    """How probable a class must be for an image to count for it, (classes,); infinite for a class without images."""

    joint: NDArray[np.float64]
    """How many of all images are estimated to be labelled i and to be of class j, (classes, classes)."""

    counted: NDArray[np.bool_]
    """Which images count for another class than their label, (images,)."""

    suggested: NDArray[np.int64]
    """The class that an image looks like, (images,): the one that it counts for, or else the most probable one."""

    scores: NDArray[np.float64]
    """The normalized margin of each label, (images,): from 0, surely wrong, to 1, surely right."""

    worst_first: NDArray[np.int64]
    """The images whose label is not their most probable class: those that are counted, then the others; by score."""

    @property
    def estimate(self) -> float:
        """How many of all labels are estimated to be wrong."""
        return float(self.joint.sum() - self.joint.trace())


def audit_labels(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> LabelAudit:
    """Compare labels with what models predicted that had not been trained on these images.

    An image counts for a class that is as probable as it is, on the average, for the images labelled so, and of several
    such classes for the most probable one (section 3.1). Those that count for another class than their label are the
    ones that are probably wrong (section 3.2, the off-diagonals of the confident joint), but for those whose label is
    still the most probable class, as in the library cleanlab.

    labels: classes, (images,), at least one.
    probabilities: (images, classes), of at least two classes.
    """
    images, classes = probabilities.shape
    every = np.arange(images)
    own = probabilities[every, labels]
    sums, sizes = np.bincount(labels, own, minlength=classes), np.bincount(labels, minlength=classes)
    thresholds = np.divide(sums, sizes, out=np.full(classes, np.inf), where=sizes > 0)

    confident = np.where(probabilities >= thresholds - ROUNDING, probabilities, -1.0)
    counts_for, counts = confident.argmax(axis=1), confident.max(axis=1) >= 0
    likeliest = probabilities.argmax(axis=1)
    # of classes that are equally probable the label is the likeliest
    doubted = probabilities.max(axis=1) > own
    counted = counts & (counts_for != labels) & doubted

    others = probabilities.copy()
    others[every, labels] = -1.0
    scores = (own - others.max(axis=1) + 1) / 2
    order = np.lexsort((scores, ~counted))
    return LabelAudit(
        thresholds=thresholds,
        joint=_joint(labels[counts], counts_for[counts], sizes),
        counted=counted,
        suggested=np.where(counted, counts_for, likeliest),
        scores=scores,
        worst_first=order[doubted[order]],
    )


def _joint(labels: NDArray[np.int64], counts_for: NDArray[np.int64], sizes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the confident joint, scaled so that each label has as many images as it has in all (equation 3).

    labels: of the images that count for a class.
    counts_for: that class.
    sizes: images of each label in all, (classes,).

    Returns (classes, classes).
    """
    classes = len(sizes)
    joint = np.bincount(labels * classes + counts_for, minlength=classes**2).reshape(classes, classes)
    # of each label that has images one counts at least: the one surest of the label reaches the mean
    return np.asarray(joint * (sizes / np.maximum(joint.sum(axis=1), 1))[:, None])
