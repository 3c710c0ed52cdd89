"""All numbers of a test, with their intervals."""

import math

from imgpipe.evaluate import intervals, scoring
from imgpipe.evaluate.scoring import Array
from imgpipe.evaluate.thresholds import threshold_for


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
