"""Probabilities to numbers and curves. scikit-learn does the arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from imgpipe.evaluate import intervals, scoring
from imgpipe.evaluate.calibration import threshold_for

Array = np.ndarray[Any, Any]
Points = tuple[Array, Array]

BINS = 15
"""Of the confidence, in which calibration is looked at; as many as Guo et al. 2017 take."""


def softmax(logits: Array) -> Array:
    """Probabilities of the classes, float64 (images, classes); logits: float (images, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def ranks(probabilities: Array, labels: Array) -> Array:
    """Place of the true class among the probabilities of each image, int64 (images,): 1 where it was predicted.

    Of equal probabilities the class of the lower number comes first, as ``argmax`` has it.
    """
    own = probabilities[np.arange(len(labels)), labels, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    before: Array = ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1)
    return before + 1


def score(probabilities: Array, labels: Array) -> dict[str, float]:
    """The metrics of a test.

    probabilities: float64 (images, classes), rows of sum 1. labels: int64 (images,), the true classes.

    Means over classes (macro) are over those that the test holds or that were predicted, weighted ones by the images
    of each; of roc_auc_ovr_macro, one class against the rest, over those with images on both sides, and of
    average_precision_macro over those that the test holds. A class never predicted has a precision of 0.
    loss: cross-entropy. brier: sum over the classes of the squared differences (Brier 1950), from 0 to 2. ece: see
    ``calibration_error``.
    """
    from sklearn import metrics

    predicted = probabilities.argmax(axis=1)
    held = np.unique(labels)
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    areas = aurocs(probabilities, labels)
    curves = precision_recall_curves(probabilities, labels).values()
    *scores, support = metrics.precision_recall_fscore_support(labels, predicted, zero_division=0)
    named = dict(zip(("precision", "recall", "f1"), scores, strict=True))
    return {
        "accuracy": float((predicted == labels).mean()),
        "top5_accuracy": float((ranks(probabilities, labels) <= 5).mean()),
        "balanced_accuracy": float(np.mean([(predicted[labels == c] == c).mean() for c in held])),
        **{f"{name}_macro": float(values.mean()) for name, values in named.items()},
        **{f"{name}_weighted": float(np.average(values, weights=support)) for name, values in named.items()},
        "roc_auc_ovr_macro": float(np.nanmean(areas)) if len(held) > 1 else np.nan,
        "average_precision_macro": float(
            np.mean([(np.diff(recall) * precision[1:]).sum() for recall, precision in curves])
        ),
        "loss": float(losses(probabilities, labels).mean()),
        "brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        "ece": calibration_error(probabilities, labels),
    }


def losses(probabilities: Array, labels: Array) -> Array:
    """Cross-entropy of each image, float64 (images,); a probability of 0 counts as the smallest float."""
    own = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(own, np.finfo(np.float64).tiny))


def aurocs(probabilities: Array, labels: Array) -> Array:
    """Area under the ROC curve of each class against the rest, float64 (classes,); NaN without images on a side.

    The share of pairs, one image of the class and one other, in which the first has the higher probability, equal
    ones counted half, from sums of ranks (Hanley and McNeil 1982): scikit-learn's number in a tenth of its time.
    """
    from scipy.stats import rankdata

    own = labels[:, None] == np.arange(probabilities.shape[1])
    inside, outside = own.sum(axis=0), (~own).sum(axis=0)
    pairs_won = (rankdata(probabilities, axis=0) * own).sum(axis=0) - inside * (inside + 1) / 2
    pairs = inside * outside
    return np.asarray(np.divide(pairs_won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def class_scores(probabilities: Array, labels: Array) -> dict[str, Array]:
    """Support, precision, recall, F1 and AUROC, each (classes,).

    NaN where undefined: without an image of the class, but that the precision of a predicted class is 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    classes = range(probabilities.shape[1])
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=classes, zero_division=np.nan
    )
    return {
        "support": support,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auroc": aurocs(probabilities, labels),
    }


def reliability(probabilities: Array, labels: Array) -> dict[str, Array]:
    """Confidence against accuracy in BINS bins of equal width, but for empty ones (Guo et al. 2017, section 2).

    A bin holds confidences above its low end, up to its high end. ``images`` in it, their mean ``confidence``, and
    their ``accuracy``.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    ends = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(ends, confidence, side="left") - 1, 0, BINS - 1)
    images = np.bincount(place, minlength=BINS)
    filled = np.flatnonzero(images)
    mean_of: Callable[[Array], Array] = lambda values: (  # noqa: E731
        np.bincount(place, weights=values, minlength=BINS)[filled] / images[filled]
    )
    return {
        "low": ends[filled],
        "high": ends[filled + 1],
        "pictures": images[filled],
        "confidence": mean_of(confidence),
        "accuracy": mean_of(right.astype(np.float64)),
    }


def calibration_error(probabilities: Array, labels: Array) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over the bins, by their images."""
    bins = reliability(probabilities, labels)
    return float((bins["pictures"] * np.abs(bins["confidence"] - bins["accuracy"])).sum() / len(labels))


def roc_curves(probabilities: Array, labels: Array) -> dict[int, Points]:
    """For each class that has images on both sides, false and true positive rate of that class against the rest."""
    from sklearn.metrics import roc_curve

    curves = {}
    for c in range(probabilities.shape[1]):
        if 0 < (labels == c).sum() < len(labels):
            false_positives, true_positives, _ = roc_curve(labels == c, probabilities[:, c])
            curves[c] = false_positives, true_positives
    return curves


def precision_recall_curves(probabilities: Array, labels: Array) -> dict[int, Points]:
    """For each class that the test holds, recall and precision of that class against the rest, recall rising."""
    from sklearn.metrics import precision_recall_curve

    curves = {}
    for c in np.unique(labels).tolist():
        precision, recall, _ = precision_recall_curve(labels == c, probabilities[:, c], drop_intermediate=True)
        curves[c] = recall[::-1], precision[::-1]
    return curves


def metrics_of_test(
    probabilities: Array, unscaled: Array, labels: Array, *, temperature: float, target_precision: float
) -> dict[str, float | int | None]:
    """The metrics of ``score`` and more, plain numbers rounded to 6 decimals; None where one is undefined.

    probabilities, unscaled: float64 (images, classes), with and without temperature scaling. labels: int64
    (images,).

    ..._ci_low, ..._ci_high: 95 % intervals. threshold: the lowest confidence from which on a share of target_precision
    of the answers is right, rounded down so that it is reached; threshold_coverage: the share of the images that it
    answers.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    ends = {
        "accuracy": intervals.wilson(int(right.sum()), len(labels)),
        **intervals.of_confusion(labels, predicted),
        "loss": intervals.of_mean(scoring.losses(probabilities, labels)),
    }
    numbers: dict[str, float | None] = {}
    for name, value in scoring.score(probabilities, labels).items():
        numbers[name] = value
        if name in ends:
            numbers[f"{name}_ci_low"], numbers[f"{name}_ci_high"] = ends[name]
    numbers["temperature"] = temperature
    numbers["loss_before_scaling"] = float(scoring.losses(unscaled, labels).mean())
    numbers["ece_before_scaling"] = scoring.calibration_error(unscaled, labels)
    numbers["threshold"], numbers["threshold_coverage"] = threshold_for(
        target_precision, probabilities.max(axis=1), right
    ) or (None, None)
    if numbers["threshold"] is not None:
        numbers["threshold"] = math.floor(numbers["threshold"] * 1e6) / 1e6
    return {name: _rounded(number) for name, number in numbers.items()} | {"images": len(labels)}


def _rounded(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else round(number, 6)
