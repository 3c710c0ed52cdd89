"""Predictions to numbers. scikit-learn does the arithmetic."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def softmax(logits: Array) -> Array:
    """Probabilities of the classes, float64 (pictures, classes); logits: float (pictures, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def score(probabilities: Array, labels: Array) -> dict[str, float | int]:
    """The metrics of a test, plain numbers rounded to 6 decimals.

    probabilities: float64 (pictures, classes), rows of sum 1. labels: int64 (pictures,), the true classes.

    Macro means are over the classes that the test holds or that were predicted; roc_auc_ovr_macro, one class against
    the rest, over those that have pictures on both sides. A class that was never predicted has a precision of 0.
    """
    from sklearn import metrics

    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    both_sides = [c for c in range(probabilities.shape[1]) if 0 < (labels == c).sum() < len(labels)]
    numbers = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)])),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "roc_auc_ovr_macro": float(
            np.mean([metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in both_sides])
        ),
        "loss": metrics.log_loss(labels, probabilities, labels=range(probabilities.shape[1])),
    }
    return {name: round(float(number), 6) for name, number in numbers.items()} | {"images": len(labels)}


def roc_curves(probabilities: Array, labels: Array) -> dict[int, tuple[Array, Array]]:
    """For each class that has pictures on both sides, false and true positive rate of that class against the rest."""
    from sklearn.metrics import roc_curve

    curves = {}
    for c in range(probabilities.shape[1]):
        if 0 < (labels == c).sum() < len(labels):
            false_positives, true_positives, _ = roc_curve(labels == c, probabilities[:, c])
            curves[c] = false_positives, true_positives
    return curves
