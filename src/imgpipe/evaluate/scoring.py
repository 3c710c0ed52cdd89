"""Score a test: numbers for all of it, scores of each class, and curves, from probabilities and true classes."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn import metrics

from imgpipe.evaluate.calibration import expected_calibration_error, null_calibration_errors
from imgpipe.evaluate.intervals import Groups, confusion_intervals, mean_interval, share_interval

COMPARED = {"accuracy": "accuracy", "balanced": "balanced_accuracy", "f1": "f1_macro", "loss": "loss"}
"""Name in summary.json, short since it heads a column of ``dvc exp show``, and name in metrics.json."""

Curves = dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""The x and y of the points of a curve, each (points,), by the number of the class."""


def all_metrics(
    probabilities: NDArray[np.float64],
    before_scaling: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: Groups,
    *,
    temperature: float,
    threshold: float | None,
) -> dict[str, float | int | None]:
    """Return the numbers of metrics.json: those of ``score``, 95 % intervals and calibration.

    probabilities: at the temperature, (images, classes), rows of sum 1.
    before_scaling: probabilities at temperature 1.
    labels: true classes, (images,).
    groups: number of each image's group, (images,), or None.
    threshold: on the confidence, chosen on the validation split, or None.

    Returns plain numbers, rounded to 6 decimals; None where a number is undefined. The keys are always the same, but
    for ``top5_accuracy``: see ``score``.
    """
    predicted = probabilities.argmax(axis=1)
    intervals = {
        "accuracy": share_interval(predicted == labels, groups),
        **confusion_intervals(labels, predicted, groups),
        "loss": mean_interval(losses(probabilities, labels), groups),
    }
    null_errors = null_calibration_errors(probabilities)
    numbers: dict[str, float | None] = {}
    for name, value in score(probabilities, labels).items():
        numbers[name] = value
        if name in intervals:
            numbers |= _interval_of(name, intervals[name])
    numbers |= {
        "ece_null_mean": float(null_errors.mean()),
        "ece_null_q95": float(np.quantile(null_errors, 0.95)),
        "temperature": temperature,
        "loss_before_scaling": float(losses(before_scaling, labels).mean()),
        "ece_before_scaling": expected_calibration_error(before_scaling, labels),
        "threshold": threshold,
    }
    counts = {"images": len(labels), "groups": None if groups is None else len(np.unique(groups))}
    return {name: _rounded(number, 6) for name, number in numbers.items()} | counts


def summary(metrics: Mapping[str, float | None]) -> dict[str, float | str | None]:
    """Return the few numbers by which experiments are compared, in the order of their columns, to 4 decimals.

    ``interval``, of the accuracy, is text such as ".968-.996", half as wide as a column for either end.

    metrics: of metrics.json.
    """
    interval = "-".join(f"{metrics[f'accuracy_ci_{end}']:.3f}".removeprefix("0") for end in ("low", "high"))
    numbers = {name: _rounded(metrics[known], 4) for name, known in COMPARED.items()}
    return {"accuracy": numbers["accuracy"], "interval": interval} | numbers


def threshold_metrics(
    threshold: float | None, confidence: NDArray[np.float64], right: NDArray[np.bool_], groups: Groups
) -> dict[str, float | None]:
    """Return ``threshold_precision`` and ``threshold_coverage`` with their 95 % intervals.

    Precision is the share of the answers that are right, where only confidences of at least the threshold are answers,
    and coverage is the share of the images that are answered. All are None where there is no threshold, and the
    precision is where there is no answer.

    confidence: of the prediction for each image, (images,).
    right: whether that prediction is right, (images,).
    """
    answered = confidence >= (math.inf if threshold is None else threshold)
    numbers: dict[str, float | None] = {}
    for name, hits, of in (("threshold_precision", right[answered], answered), ("threshold_coverage", answered, None)):
        undefined = threshold is None or not len(hits)
        own = groups if groups is None or of is None else groups[of]
        numbers[name] = None if undefined else float(hits.mean())
        numbers |= _interval_of(name, (math.nan, math.nan) if undefined else share_interval(hits, own))
    return {name: _rounded(number, 6) for name, number in numbers.items()}


def _interval_of(name: str, ends: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_ci_low": ends[0], f"{name}_ci_high": ends[1]}


def _rounded(number: float | None, decimals: int) -> float | None:
    return None if number is None or math.isnan(number) else round(number, decimals)


def score(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Return the metrics of a test, without intervals.

    top5_accuracy: only of more than five classes; of fewer it is 1.
    ..._macro: means over the classes that the test holds or that were predicted; a class that was never predicted has
        a precision of 0. roc_auc_ovr_macro: over the classes with images on both sides, one class against the rest.
        average_precision_macro: over the classes that the test holds.
    ..._weighted: the same means, weighted by the images of each class.
    loss: cross-entropy in nats.
    brier: squared differences from the truth, summed over the classes: 0 to 2 (Brier 1950).
    ece: see ``expected_calibration_error``.

    probabilities: (images, classes), rows of sum 1.
    labels: true classes, (images,).
    """
    predicted = probabilities.argmax(axis=1)
    held = np.unique(labels)
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    areas = aurocs(probabilities, labels)
    curves = precision_recall_curves(probabilities, labels).values()
    *scores, support = metrics.precision_recall_fscore_support(labels, predicted, zero_division=0)
    by_class = dict(zip(("precision", "recall", "f1"), scores, strict=True))
    many = probabilities.shape[1] > 5
    top5 = {"top5_accuracy": float((ranks(probabilities, labels) <= 5).mean())} if many else {}
    return {
        "accuracy": float((predicted == labels).mean()),
        **top5,
        "balanced_accuracy": float(np.mean([(predicted[labels == c] == c).mean() for c in held])),
        **{f"{name}_macro": float(values.mean()) for name, values in by_class.items()},
        **{f"{name}_weighted": float(np.average(values, weights=support)) for name, values in by_class.items()},
        "roc_auc_ovr_macro": float(np.nanmean(areas)) if len(held) > 1 else np.nan,
        "average_precision_macro": float(
            np.mean([(np.diff(recall) * precision[1:]).sum() for recall, precision in curves])
        ),
        "loss": float(losses(probabilities, labels).mean()),
        "brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(probabilities, labels),
    }


def ranks(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of the true class among the probabilities of each image, (images,): 1 where it was predicted.

    Of equal probabilities the class of the lower number comes first, as ``argmax`` has it.
    """
    own = probabilities[np.arange(len(labels)), labels, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    before = (probabilities > own) | ((probabilities == own) & earlier)
    return np.asarray(before.sum(axis=1) + 1)


def losses(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each image, (images,); a probability of 0 counts as the smallest float."""
    own = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(own, np.finfo(np.float64).tiny))


def aurocs(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each class against the rest, (classes,); NaN without images on a side.

    The area is the share of pairs, one image of the class and one other, in which the first has the higher
    probability, equal ones counted half. It comes from sums of ranks (Hanley and McNeil 1982): scikit-learn's number in
    a tenth of its time.
    """
    own = labels[:, None] == np.arange(probabilities.shape[1])
    inside, outside = own.sum(axis=0), (~own).sum(axis=0)
    pairs_won = (rankdata(probabilities, axis=0) * own).sum(axis=0) - inside * (inside + 1) / 2
    pairs = inside * outside
    return np.asarray(np.divide(pairs_won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def class_scores(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return columns of a number for each class: ``support`` (images), ``precision``, ``recall``, ``f1`` and ``auroc``.

    Without images of a class its scores are undefined, NaN, but that precision and F1 are 0 where it was predicted.
    """
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1]), zero_division=np.nan
    )
    return {
        "support": support,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auroc": aurocs(probabilities, labels),
    }


def roc_curves(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Curves:
    """Return the false and true positive rates of each class against the rest, if it has images on both sides."""
    curves = {}
    for c in range(probabilities.shape[1]):
        if 0 < (labels == c).sum() < len(labels):
            false_positives, true_positives, _ = metrics.roc_curve(labels == c, probabilities[:, c])
            curves[c] = false_positives, true_positives
    return curves


def precision_recall_curves(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Curves:
    """Return recall, rising, and precision of each class against the rest, if the test holds it."""
    curves = {}
    for c in np.unique(labels).tolist():
        precision, recall, _ = metrics.precision_recall_curve(labels == c, probabilities[:, c], drop_intermediate=True)
        curves[c] = recall[::-1], precision[::-1]
    return curves
