"""Learning-rate schedules: each a function of the time in epochs that gives a factor of the learning rate.

To add one: a function ``(epoch, epochs, *, ...)`` with typed keywords, and a line in SCHEDULES.
"""

import math
from collections.abc import Callable
from typing import Annotated

from imgpipe.rules import Interval

Epochs = Annotated[float, Interval(low=0)]


def constant(epoch: float, epochs: int, *, warmup_epochs: Epochs) -> float:
    """1, after a linear warm-up.

    >>> [constant(epoch, 10, warmup_epochs=2) for epoch in (0, 1, 2, 5)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return min(1.0, epoch / warmup_epochs) if warmup_epochs else 1.0


def cosine(epoch: float, epochs: int, *, warmup_epochs: Epochs) -> float:
    """From 1 to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5), after a linear warm-up.

    >>> [round(cosine(epoch, 10, warmup_epochs=2), 3) for epoch in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9)))


def step(
    epoch: float,
    epochs: int,
    *,
    warmup_epochs: Epochs,
    step_epochs: Annotated[int, Interval(low=1)],
    gamma: Annotated[float, Interval(0, 1, open_low=True)],
) -> float:
    """Multiplied by ``gamma`` every ``step_epochs``, after a linear warm-up.

    >>> [step(epoch, 10, warmup_epochs=0, step_epochs=4, gamma=0.5) for epoch in (0, 3.9, 4, 8)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return constant(epoch, epochs, warmup_epochs=warmup_epochs) * gamma ** int(epoch // step_epochs)


SCHEDULES: dict[str, Callable[..., float]] = {"constant": constant, "cosine": cosine, "step": step}
