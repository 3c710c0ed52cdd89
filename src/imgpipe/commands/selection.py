"""Choose which classes an answer names: the likeliest, a prediction set, or none where the model is not sure enough."""

from imgpipe.common.errors import InputError
from imgpipe.evaluate.prediction_sets import PERCENTS, images_needed
from imgpipe.model.description import Description


def selection(
    description: Description, *, top: int | None, coverage: float | None, none_below_threshold: bool
) -> tuple[int | None, float]:
    """Return how many classes an answer names at most, None for a set, and the probability that each must have.

    The arguments are those of ``imgpipe predict``. Raises InputError where the model can't answer so.
    """
    if coverage is not None and (top or none_below_threshold):
        other = "--top" if top else "--none-below-threshold"
        raise InputError(f"--coverage and {other} each choose the classes that are named; leave one of them out")
    if coverage is not None:
        return None, set_threshold(description, coverage, asked_by="--coverage is")
    if top and top > len(description.classes):
        raise InputError(f"--top is {top}, but the model has {len(description.classes)} classes; ask for no more")
    return top or 1, _answer_threshold(description) if none_below_threshold else 0.0


def set_threshold(description: Description, coverage: float, *, asked_by: str) -> float:
    """Return the probability from which on a class belongs to a prediction set.

    coverage: the probability that a set holds the true class.
    asked_by: what stands before the coverage in an error, such as "--coverage is".

    Raises InputError where the model has no such sets.
    """
    percent = round(coverage * 100) if 0 <= coverage <= 1 else 0  # not of infinity and NaN
    if percent not in PERCENTS or abs(coverage * 100 - percent) > 1e-6:
        raise InputError(
            f"{asked_by} {coverage}; it must be from 0.{PERCENTS[0]} to 0.{PERCENTS[-1]}, in steps of 0.01"
        )
    _check_evaluated(description)
    threshold = description.set_thresholds.get(f"{percent / 100:.2f}")
    if threshold is None:
        raise InputError(
            f"{asked_by} {coverage}, which takes {images_needed(percent)} images in the val split, and the model was "
            f"evaluated with {description.val_images}; ask for {max(description.set_thresholds)} or less"
        )
    return threshold


def _answer_threshold(description: Description) -> float:
    """Return the confidence below which nothing is to be answered. Raises InputError where the model has none."""
    _check_evaluated(description)
    if description.threshold is None:
        raise InputError(
            f"the model has no threshold for --none-below-threshold: the {description.val_images} val images "
            "show for no confidence that answers are as precise as evaluate.target_precision asks; lower that, or have "
            "more images there, and run dvc repro"
        )
    return description.threshold


def _check_evaluated(description: Description) -> None:
    """Raise InputError where the model has no thresholds at all."""
    if not (description.val_images and description.set_thresholds):
        raise InputError(
            "the model was not evaluated yet, so it has no thresholds; take models/classifier.safetensors, which dvc "
            "repro makes of it"
        )
