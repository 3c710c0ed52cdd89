"""Which images an epoch shows, in which order, and how much each class weighs in the loss.

All of it is a function of labels, seed and epoch alone. To add an order, write a function ``(labels, *, seed, epoch)``
and a line in ORDERS; to add class weights, a function ``(labels, classes, *, ...)`` with typed keywords and a line in
CLASS_WEIGHTS.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from imgpipe.common.errors import InputError
from imgpipe.common.rules import Interval, Rule, one_of
from imgpipe.data.packed import Integers
from imgpipe.model.randomness import generator


def shuffled(labels: Integers, *, seed: int, epoch: int) -> Integers:
    """Order every image once, at random: numbers of images, int64 (images,)."""
    return generator("order", seed, epoch).permutation(len(labels))


def balanced(labels: Integers, *, seed: int, epoch: int) -> Integers:
    """Order as many images as there are, each class as often as every other: numbers of images, int64 (images,).

    A class too small repeats its images, one too large leaves some out: others in every epoch.
    """
    random = generator("order", seed, epoch)
    classes = np.unique(labels)
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[random.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen = []
    for label, quota in zip(classes, quotas, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [random.permutation(members) for _ in range(-(-quota // len(members)))]
        chosen.append(np.concatenate(rounds)[:quota])
    return random.permutation(np.concatenate(chosen))


ORDERS: Mapping[str, Callable[..., Integers]] = {"shuffled": shuffled, "balanced": balanced}

Floats = np.ndarray[Any, np.dtype[np.float32]]
Name = str | int | float
"""A class's name, as YAML reads what looks like a number."""
Weight = Annotated[float, Interval(low=0, open_low=True)]
BY_NAME = Rule("numbers above 0 by name such as {cat: 2.0}", lambda weights: isinstance(weights, dict))


def unweighted(labels: Integers, classes: Sequence[str]) -> None:
    """Give no weights: every image counts as much as another."""


def balanced_weights(labels: Integers, classes: Sequence[str]) -> Floats:
    """Weigh every class as much as another: images / (classes * images of the class) (King and Zeng 2001).

    labels: numbers of the training images' classes, int64 (images,).
    classes: their names.

    Returns a weight for each class, float32 (classes,), with a mean of 1 over the images, so that the learning rate
    keeps its meaning.
    """
    counts = np.bincount(labels, minlength=len(classes))
    assert counts.all(), "every class has images to train on"
    return _normalised(1 / counts, labels)


def given_weights(
    labels: Integers, classes: Sequence[str], *, weights: Annotated[dict[Name, Weight], BY_NAME]
) -> Floats:
    """Weigh the classes as told by name; a class that is not named weighs 1 beside the others.

    Returns what ``balanced_weights`` does. Raises InputError for a name that is no class.
    """
    by_name = {str(name): weight for name, weight in weights.items()}
    for name in by_name:
        if name not in classes:
            raise InputError(
                f"params.yaml: train.class_weights.given.weights names '{name}', which is no class; they are "
                f"{one_of(classes).replace(' or ', ' and ')}"
            )
    return _normalised(np.array([float(by_name.get(name, 1)) for name in classes]), labels)


def _normalised(weights: np.ndarray[Any, np.dtype[np.float64]], labels: Integers) -> Floats:
    return np.asarray(weights / weights[labels].mean(), dtype=np.float32)


CLASS_WEIGHTS: Mapping[str, Callable[..., Floats | None]] = {
    "none": unweighted,
    "balanced": balanced_weights,
    "given": given_weights,
}
