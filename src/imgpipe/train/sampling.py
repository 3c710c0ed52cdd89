"""Which images an epoch shows, and in which order: a function of the labels, the seed and the epoch alone.

To add an order: a function ``(labels, seed, epoch)`` and a line in ORDERS.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from imgpipe.common.errors import InputError
from imgpipe.common.rules import Interval, Rule, one_of
from imgpipe.data.packed import Integers
from imgpipe.model.randomness import generator


def shuffled(labels: Integers, *, seed: int, epoch: int) -> Integers:
    """Every image once, in the order of an epoch, int64 (images,): a function of its arguments alone."""
    return generator("order", seed, epoch).permutation(len(labels))


def balanced(labels: Integers, *, seed: int, epoch: int) -> Integers:
    """As many images as there are, but each class as often as every other, int64 (images,).

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


ORDERS = {"shuffled": shuffled, "balanced": balanced}


if TYPE_CHECKING:
    from torch import Tensor


Name = str | int | float
"""A class's name, as YAML reads what looks like a number."""
Weight = Annotated[float, Interval(low=0, open_low=True)]
WEIGHTS = Rule("numbers above 0 by name such as {cat: 2.0}", bool)


def unweighted(labels: Integers, classes: Sequence[str]) -> Any:
    """Every image weighs 1."""
    return None


def balanced_weights(labels: Integers, classes: Sequence[str]) -> Any:
    """Every class weighs as much as another: images / (classes * images of the class) (King and Zeng 2001)."""
    counts = np.bincount(labels, minlength=len(classes))
    assert counts.all(), "every class has images to train on"
    return _normalised(1 / counts, labels)


def given_weights(labels: Integers, classes: Sequence[str], *, weights: Annotated[dict[Name, Weight], WEIGHTS]) -> Any:
    """As told by class name; a class that is not named weighs 1 beside the others.

    Raises InputError for a name that is no class.
    """
    by_name = {str(name): weight for name, weight in weights.items()}
    for name in by_name:
        if name not in classes:
            raise InputError(
                f"params.yaml: train.class_weights.weights names '{name}', which is no class; they are "
                f"{one_of(classes).replace(' or ', ' and ')}"
            )
    return _normalised(np.array([float(by_name.get(name, 1)) for name in classes]), labels)


def _normalised(weights: "np.ndarray[Any, np.dtype[np.float64]]", labels: Integers) -> "Tensor":
    import torch

    return torch.from_numpy((weights / weights[labels].mean()).astype(np.float32))


CLASS_WEIGHTS: Mapping[str, Callable[..., Any]] = {
    "none": unweighted,
    "balanced": balanced_weights,
    "given": given_weights,
}
