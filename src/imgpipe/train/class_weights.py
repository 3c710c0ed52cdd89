"""How much the images of each class weigh in the training loss.

To add a way: a function ``(labels, classes, *, ...)`` with typed keywords, and a line in CLASS_WEIGHTS. It gets the
numbers of the training images' classes, (images,), and the names of the classes, and gives a weight for each class,
float32 (classes,), with a mean of 1 over the training images, so that the learning rate keeps its meaning; or None.

torch is imported inside: the signatures are also needed where params.yaml is checked, which takes no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from imgpipe.common.errors import InputError
from imgpipe.common.rules import Interval, Rule, one_of
from imgpipe.data.packed import Integers

if TYPE_CHECKING:
    from torch import Tensor


Name = str | int | float
"""A class's name, as YAML reads what looks like a number."""
Weight = Annotated[float, Interval(low=0, open_low=True)]
WEIGHTS = Rule("numbers above 0 by name such as {cat: 2.0}", bool)


def unweighted(labels: Integers, classes: Sequence[str]) -> Any:
    """Every image weighs 1."""
    return None


def balanced(labels: Integers, classes: Sequence[str]) -> Any:
    """Every class weighs as much as another: images / (classes * images of the class) (King and Zeng 2001)."""
    counts = np.bincount(labels, minlength=len(classes))
    assert counts.all(), "every class has images to train on"
    return _normalised(1 / counts, labels)


def given(labels: Integers, classes: Sequence[str], *, weights: Annotated[dict[Name, Weight], WEIGHTS]) -> Any:
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


CLASS_WEIGHTS: Mapping[str, Callable[..., Any]] = {"none": unweighted, "balanced": balanced, "given": given}
