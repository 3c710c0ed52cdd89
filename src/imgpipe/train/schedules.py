"""Learning-rate schedules: each a function that gives the factor of the learning rate in an update.

All of them take these arguments, whether they need them or not:

time: in the middle of the update, in epochs: ``e + (i + 0.5) / n`` for update ``i`` of ``n`` in epoch ``e``, both from
0. So neither a warm-up's first update nor the last one of the training has a factor of 0.
epochs: of the whole training.
monitored: what ``train.monitor`` names of each epoch done, in order, the higher the better: the accuracy of the
validation split, or its loss with the sign changed.
warmup_epochs: time in which the factor rises from 0 in a line, 0 for no warm-up; it may end within an epoch.

To add one: a function ``(time, epochs, monitored, *, ...)`` and a line in SCHEDULES. Its annotated keywords are its
keys in params.yaml.
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


def constant(time: float, epochs: int, monitored: Sequence[float], *, warmup_epochs: Epochs) -> float:
    """Keep the factor at 1, after a linear warm-up.

    >>> [constant(time, 10, [], warmup_epochs=2) for time in (0, 1, 2, 5)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return _warmed_up(time, warmup_epochs)


def cosine(time: float, epochs: int, monitored: Sequence[float], *, warmup_epochs: Epochs) -> float:
    """Lower the factor from 1 to 0 along half a cosine, after a linear warm-up.

    Source: Loshchilov and Hutter 2017, equation 5.

    >>> [round(cosine(time, 10, [], warmup_epochs=2), 3) for time in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    elapsed, length = _after_warmup(time, epochs, warmup_epochs)
    return _warmed_up(time, warmup_epochs) * 0.5 * (1 + math.cos(math.pi * elapsed / length))


def polynomial(
    time: float,
    epochs: int,
    monitored: Sequence[float],
    *,
    warmup_epochs: Epochs,
    power: Annotated[float, Interval(low=0, open_low=True)],
) -> float:
    """Lower the factor from 1 to 0 as a power of the time that is left, after a linear warm-up.

    power: 1 for a straight line.

    >>> [polynomial(time, 10, [], warmup_epochs=2, power=2) for time in (1, 2, 6, 10)]
    [0.5, 1.0, 0.25, 0.0]
    """
    elapsed, length = _after_warmup(time, epochs, warmup_epochs)
    return float(_warmed_up(time, warmup_epochs) * (1 - elapsed / length) ** power)


def one_cycle(
    time: float,
    epochs: int,
    monitored: Sequence[float],
    *,
    warmup_epochs: Epochs,
    pct_start: Share,
    initial_factor: Gamma,
    final_factor: Annotated[float, Interval(0, 1)],
) -> float:
    """Raise the factor to 1, then lower it, each along half a cosine, after a linear warm-up to the start.

    pct_start: share of the time after the warm-up in which the factor rises.
    initial_factor, final_factor: where it starts and ends; in terms of torch's OneCycleLR 1 / div_factor and
    1 / (div_factor * final_div_factor).

    The optimizer's momentum stays as it is. Source: Smith and Topin 2018.

    >>> settings = {"warmup_epochs": 0, "pct_start": 0.4, "initial_factor": 0.1, "final_factor": 0.0}
    >>> [round(one_cycle(time, 10, [], **settings), 3) for time in (0, 2, 4, 7, 10)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """
    elapsed, length = _after_warmup(time, epochs, warmup_epochs)
    place = elapsed / length
    if place < pct_start:
        end, way = initial_factor, 1 - place / pct_start
    else:
        end, way = final_factor, (place - pct_start) / (1 - pct_start)
    return _warmed_up(time, warmup_epochs) * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * way)))


def step(
    time: float,
    epochs: int,
    monitored: Sequence[float],
    *,
    warmup_epochs: Epochs,
    step_epochs: Annotated[int, Interval(low=1)],
    gamma: Gamma,
) -> float:
    """Multiply the factor by ``gamma`` after every ``step_epochs``, with a linear warm-up.

    >>> [step(time, 10, [], warmup_epochs=0, step_epochs=4, gamma=0.5) for time in (0, 3.9, 4.1, 7.9, 8.1)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return float(_warmed_up(time, warmup_epochs) * gamma ** (int(time) // step_epochs))


def multi_step(
    time: float,
    epochs: int,
    monitored: Sequence[float],
    *,
    warmup_epochs: Epochs,
    milestones: Annotated[list[int], RISING],
    gamma: Gamma,
) -> float:
    """Multiply the factor by ``gamma`` after each of the epochs ``milestones``, with a linear warm-up.

    >>> [multi_step(time, 10, [], warmup_epochs=0, milestones=[4, 6], gamma=0.5) for time in (3.9, 4.1, 5.9, 6.1)]
    [1.0, 0.5, 0.5, 0.25]
    """
    passed = sum(milestone <= time for milestone in milestones)
    return float(_warmed_up(time, warmup_epochs) * gamma**passed)


def plateau(
    time: float,
    epochs: int,
    monitored: Sequence[float],
    *,
    warmup_epochs: Epochs,
    factor: Share,
    patience: Annotated[int, Interval(low=0)],
    threshold: Annotated[float, Interval(0, 1, open_high=True)],
) -> float:
    """Multiply by ``factor`` each time what is monitored has got no better for more than ``patience`` epochs.

    threshold: it counts as better where it is so by more than this share of the best.

    This is torch's ReduceLROnPlateau, ``max`` of accuracies and ``min`` of losses, with a linear warm-up.

    >>> settings = {"warmup_epochs": 0, "factor": 0.5, "patience": 1, "threshold": 0.0}
    >>> [plateau(n, 10, [0.1, 0.3, 0.2, 0.3, 0.4][:n], **settings) for n in range(6)]
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    """
    bar, still, reductions = -math.inf, 0, 0  # the bar is what the next one has to be above
    for value in monitored:
        if value > bar:
            bar, still = value + threshold * abs(value), 0
        else:
            still += 1
        if still > patience:
            still, reductions = 0, reductions + 1
    return float(_warmed_up(time, warmup_epochs) * factor**reductions)


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": cosine,
    "polynomial": polynomial,
    "one_cycle": one_cycle,
    "step": step,
    "multi_step": multi_step,
    "plateau": plateau,
}


def _warmed_up(time: float, warmup_epochs: float) -> float:
    return min(1.0, time / warmup_epochs) if warmup_epochs else 1.0


def _after_warmup(time: float, epochs: int, warmup_epochs: float) -> tuple[float, float]:
    """Return how long ago the warm-up ended, and how long the training lasts from there."""
    return max(0.0, time - warmup_epochs), max(epochs - warmup_epochs, 1e-9)
