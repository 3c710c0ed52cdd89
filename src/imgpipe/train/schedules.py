"""Learning-rate schedules: each a function of the time in epochs that gives a factor of the learning rate.

The time is that at the end of an update, ``e + (i + 1) / n`` for update ``i`` of ``n`` in epoch ``e``, both from 0: a
warm-up starts above 0, and an epoch's last update still belongs to it. ``val_losses`` are those of the epochs done.

To add one: a function ``(epoch, epochs, val_losses, *, ...)`` with typed keywords, and a line in SCHEDULES.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

from imgpipe.common.rules import Interval, Rule

Epochs = Annotated[float, Interval(low=0)]
Share = Annotated[float, Interval(0, 1, open_low=True, open_high=True)]
Gamma = Annotated[float, Interval(0, 1, open_low=True)]

RISING = Rule(
    "a list of whole numbers of at least 1, each above the one before it",
    lambda numbers: bool(numbers) and numbers[0] >= 1 and all(a < b for a, b in pairwise(numbers)),
)


def constant(epoch: float, epochs: int, val_losses: Sequence[float], *, warmup_epochs: Epochs) -> float:
    """1, after a linear warm-up.

    >>> [constant(epoch, 10, [], warmup_epochs=2) for epoch in (0, 1, 2, 5)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return _warmed_up(epoch, warmup_epochs)


def cosine(epoch: float, epochs: int, val_losses: Sequence[float], *, warmup_epochs: Epochs) -> float:
    """From 1 to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5), after a linear warm-up.

    >>> [round(cosine(epoch, 10, [], warmup_epochs=2), 3) for epoch in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    time, length = _after_warmup(epoch, epochs, warmup_epochs)
    return _warmed_up(epoch, warmup_epochs) * 0.5 * (1 + math.cos(math.pi * time / length))


def polynomial(
    epoch: float,
    epochs: int,
    val_losses: Sequence[float],
    *,
    warmup_epochs: Epochs,
    power: Annotated[float, Interval(low=0, open_low=True)],
) -> float:
    """From 1 to 0 as a power of the time that is left, in a line with power 1, after a linear warm-up.

    >>> [polynomial(epoch, 10, [], warmup_epochs=2, power=2) for epoch in (1, 2, 6, 10)]
    [0.5, 1.0, 0.25, 0.0]
    """
    time, length = _after_warmup(epoch, epochs, warmup_epochs)
    return float(_warmed_up(epoch, warmup_epochs) * (1 - time / length) ** power)


def one_cycle(
    epoch: float,
    epochs: int,
    val_losses: Sequence[float],
    *,
    warmup_epochs: Epochs,
    pct_start: Share,
    initial_factor: Gamma,
    final_factor: Annotated[float, Interval(0, 1)],
) -> float:
    """Up to 1, then down, each along half a cosine (Smith and Topin 2018), after a linear warm-up to the start.

    pct_start: share of the time after the warm-up in which it goes up. initial_factor, final_factor: where it starts
    and ends; in terms of torch's OneCycleLR 1 / div_factor and 1 / (div_factor * final_div_factor). The optimizer's
    momentum stays as it is.

    >>> settings = {"warmup_epochs": 0, "pct_start": 0.4, "initial_factor": 0.1, "final_factor": 0.0}
    >>> [round(one_cycle(epoch, 10, [], **settings), 3) for epoch in (0, 2, 4, 7, 10)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """
    time, length = _after_warmup(epoch, epochs, warmup_epochs)
    place = time / length
    if place < pct_start:
        end, way = initial_factor, 1 - place / pct_start
    else:
        end, way = final_factor, (place - pct_start) / (1 - pct_start)
    return _warmed_up(epoch, warmup_epochs) * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * way)))


def step(
    epoch: float,
    epochs: int,
    val_losses: Sequence[float],
    *,
    warmup_epochs: Epochs,
    step_epochs: Annotated[int, Interval(low=1)],
    gamma: Gamma,
) -> float:
    """Multiplied by ``gamma`` after every ``step_epochs``, with a linear warm-up.

    >>> [step(epoch, 10, [], warmup_epochs=0, step_epochs=4, gamma=0.5) for epoch in (0.1, 4, 4.1, 8, 8.1)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return float(_warmed_up(epoch, warmup_epochs) * gamma ** (_epochs_before(epoch) // step_epochs))


def multi_step(
    epoch: float,
    epochs: int,
    val_losses: Sequence[float],
    *,
    warmup_epochs: Epochs,
    milestones: Annotated[list[int], RISING],
    gamma: Gamma,
) -> float:
    """Multiplied by ``gamma`` after each of the epochs ``milestones``, with a linear warm-up.

    >>> [multi_step(epoch, 10, [], warmup_epochs=0, milestones=[4, 6], gamma=0.5) for epoch in (4, 4.1, 6, 6.1)]
    [1.0, 0.5, 0.5, 0.25]
    """
    passed = sum(milestone <= _epochs_before(epoch) for milestone in milestones)
    return float(_warmed_up(epoch, warmup_epochs) * gamma**passed)


def plateau(
    epoch: float,
    epochs: int,
    val_losses: Sequence[float],
    *,
    warmup_epochs: Epochs,
    factor: Share,
    patience: Annotated[int, Interval(low=0)],
    threshold: Annotated[float, Interval(0, 1, open_high=True)],
) -> float:
    """Multiplied by ``factor`` when the validation loss has stood still for more than ``patience`` epochs.

    threshold: the loss counts as lower where it is so by more than this share of the lowest. As torch's
    ReduceLROnPlateau, with a linear warm-up.

    >>> settings = {"warmup_epochs": 0, "factor": 0.5, "patience": 1, "threshold": 0.0}
    >>> [plateau(n, 10, [0.9, 0.7, 0.8, 0.7, 0.6][:n], **settings) for n in range(6)]
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    """
    lowest, still, reductions = math.inf, 0, 0
    for loss in val_losses:
        if loss < lowest * (1 - threshold):
            lowest, still = loss, 0
        else:
            still += 1
        if still > patience:
            still, reductions = 0, reductions + 1
    return float(_warmed_up(epoch, warmup_epochs) * factor**reductions)


def _warmed_up(epoch: float, warmup_epochs: float) -> float:
    return min(1.0, epoch / warmup_epochs) if warmup_epochs else 1.0


def _after_warmup(epoch: float, epochs: int, warmup_epochs: float) -> tuple[float, float]:
    """The time since the end of the warm-up, and how long the training lasts from there."""
    return max(0.0, epoch - warmup_epochs), max(epochs - warmup_epochs, 1e-9)


def _epochs_before(epoch: float) -> int:
    """How many epochs were over when the epoch began in which an update ended at this time."""
    return max(0, math.ceil(epoch) - 1)


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": cosine,
    "polynomial": polynomial,
    "one_cycle": one_cycle,
    "step": step,
    "multi_step": multi_step,
    "plateau": plateau,
}
