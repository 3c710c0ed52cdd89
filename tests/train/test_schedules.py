"""Schedules at points worked out by hand, and against torch's own schedulers over whole trainings."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from imgpipe.train.schedules import SCHEDULES

EPOCHS, UPDATES = 12, 7
"""Of a training, and of each of its epochs."""


@pytest.mark.parametrize(
    ("name", "values", "points"),
    [
        ("constant", {"warmup_epochs": 0}, {0: 1, 7: 1}),
        ("constant", {"warmup_epochs": 4}, {0: 0, 1: 0.25, 4: 1, 7: 1}),
        ("cosine", {"warmup_epochs": 0}, {0: 1, 2: 0.5 + math.sqrt(0.125), 4: 0.5, 8: 0}),
        ("cosine", {"warmup_epochs": 2}, {1: 0.5, 2: 1, 5: 0.5, 8: 0}),
        ("cosine", {"warmup_epochs": 8}, {4: 0.5, 8: 1}),
        ("polynomial", {"warmup_epochs": 0, "power": 1}, {0: 1, 2: 0.75, 8: 0}),
        ("polynomial", {"warmup_epochs": 4, "power": 3}, {1: 0.25, 4: 1, 6: 0.125, 8: 0}),
        ("step", {"warmup_epochs": 0, "step_epochs": 3, "gamma": 0.1}, {0: 1, 2.9: 1, 3.1: 0.1, 5.9: 0.1, 6.1: 0.01}),
        ("step", {"warmup_epochs": 2, "step_epochs": 3, "gamma": 0.1}, {1: 0.5, 2.9: 1, 3.1: 0.1}),
        (
            "multi_step",
            {"warmup_epochs": 0, "milestones": [2, 3], "gamma": 0.1},
            {1.9: 1, 2.1: 0.1, 2.9: 0.1, 3.1: 0.01},
        ),
    ],
)
def test_schedules_pass_these_points(name: str, values: dict[str, Any], points: dict[float, float]) -> None:
    """Over 8 epochs."""
    for epoch, factor in points.items():
        assert SCHEDULES[name](epoch, 8, [], **values) == pytest.approx(factor), epoch


def ours(name: str, monitored: Sequence[float] = (), **values: Any) -> list[float]:
    """The factor of every update of a training, at the times that the training loop gives."""
    return [
        SCHEDULES[name](epoch + (update + 0.5) / UPDATES, EPOCHS, monitored[:epoch], **values)
        for epoch in range(EPOCHS)
        for update in range(UPDATES)
    ]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def by_epochs(scheduler: Any, monitored: Sequence[float] | None = None) -> list[float]:
    """The rate of every update where torch's scheduler is stepped at the end of each epoch."""
    rates = []
    for epoch in range(EPOCHS):
        rates += [scheduler.optimizer.param_groups[0]["lr"]] * UPDATES
        scheduler.optimizer.step()
        scheduler.step(*([] if monitored is None else [monitored[epoch]]))
    return rates


def by_half_updates(scheduler: Any) -> list[float]:
    """torch's rates at the start of each half of each update, and at the end of the training."""
    rates = [scheduler.optimizer.param_groups[0]["lr"]]
    for _ in range(2 * EPOCHS * UPDATES):
        scheduler.optimizer.step()
        scheduler.step()
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
    return rates


def test_step_is_torchs_step_lr() -> None:
    theirs = by_epochs(lr_scheduler.StepLR(optimizer(), step_size=5, gamma=0.1))
    assert ours("step", warmup_epochs=0, step_epochs=5, gamma=0.1) == pytest.approx(theirs)


def test_multi_step_is_torchs_multi_step_lr() -> None:
    theirs = by_epochs(lr_scheduler.MultiStepLR(optimizer(), milestones=[3, 4, 9], gamma=0.2))
    assert ours("multi_step", warmup_epochs=0, milestones=[3, 4, 9], gamma=0.2) == pytest.approx(theirs)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("seed", range(20))
def test_plateau_is_torchs_reduce_lr_on_plateau(seed: int, mode: Any) -> None:
    """Of losses that fall to 2, and of accuracies that rise towards 1 and end at 0, with noise and steps of 1 %."""
    draw = random.Random(seed)
    if mode == "min":
        numbers = [1 / (1 + epoch) + 0.5 * draw.random() for epoch in range(EPOCHS - 4)] + [2.0] * 4
    else:
        numbers = [round(1 - 0.5 / (1 + epoch) - 0.2 * draw.random(), 2) for epoch in range(EPOCHS - 4)] + [0.0] * 4
    values: dict[str, Any] = {"factor": 0.5, "patience": seed % 3, "threshold": draw.choice([0.0, 1e-4, 0.1])}
    theirs = by_epochs(lr_scheduler.ReduceLROnPlateau(optimizer(), mode=mode, eps=0, **values), numbers)
    assert theirs[-1] < 1
    higher_is_better = [-number for number in numbers] if mode == "min" else numbers
    assert ours("plateau", higher_is_better, warmup_epochs=0, **values) == pytest.approx(theirs)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_an_equal_one_is_no_better(value: float) -> None:
    """Of three equal ones the second and third stand still: with a patience of 1 the rate falls after the third."""
    values = {"warmup_epochs": 0, "factor": 0.1, "patience": 1, "threshold": 0.0}
    assert [SCHEDULES["plateau"](0, 9, [value] * epochs, **values) for epochs in range(5)] == [1, 1, 1, 0.1, 0.1]


def test_cosine_is_torchs_cosine_annealing() -> None:
    theirs = by_half_updates(lr_scheduler.CosineAnnealingLR(optimizer(), T_max=2 * EPOCHS * UPDATES))
    assert ours("cosine", warmup_epochs=0) == pytest.approx(theirs[1::2], abs=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_polynomial_is_torchs_polynomial_lr(power: float) -> None:
    theirs = by_half_updates(lr_scheduler.PolynomialLR(optimizer(), total_iters=2 * EPOCHS * UPDATES, power=power))
    assert ours("polynomial", warmup_epochs=0, power=power) == pytest.approx(theirs[1::2], abs=1e-7)


def test_the_warm_up_is_torchs_linear_lr() -> None:
    """From 1/42 in the first half of an update to 1 after 21 updates: at first 0.5/21, in the 21st 20.5/21."""
    halves = 2 * 3 * UPDATES
    theirs = by_half_updates(lr_scheduler.LinearLR(optimizer(), start_factor=1 / halves, total_iters=halves - 1))
    rates = ours("constant", warmup_epochs=3)
    assert rates == pytest.approx(theirs[:-1:2])
    assert (rates[0], rates[20], rates[21]) == pytest.approx((0.5 / 21, 20.5 / 21, 1))


def test_one_cycle_is_torchs_one_cycle_lr() -> None:
    """On its way up torch counts steps, here half updates, from the first to the peak, as if there were one fewer."""
    cycle: dict[str, Any] = {"pct_start": 0.25, "initial_factor": 1 / 25, "final_factor": 1 / 250}
    total, peak = 2 * EPOCHS * UPDATES, EPOCHS * UPDATES // 2
    scheduler = lr_scheduler.OneCycleLR(
        optimizer(), 1.0, total, pct_start=0.25, div_factor=25, final_div_factor=10, cycle_momentum=False
    )
    theirs = by_half_updates(scheduler)[:-1]
    times = [EPOCHS * 0.25 * half / (peak - 1) for half in range(peak)]
    times += [(half + 1) / (2 * UPDATES) for half in range(peak, total)]
    same = [SCHEDULES["one_cycle"](time, EPOCHS, [], warmup_epochs=0, **cycle) for time in times]
    assert same == pytest.approx(theirs)
    assert ours("one_cycle", warmup_epochs=0, **cycle) == pytest.approx(theirs[::2], abs=math.pi / 2 / (peak - 1))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cosine", {}),
        ("polynomial", {"power": 2}),
        ("one_cycle", {"pct_start": 0.3, "initial_factor": 0.2, "final_factor": 0.0}),
    ],
)
@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_every_update_moves_the_weights(name: str, values: dict[str, Any], warmup_epochs: float) -> None:
    """Also where the curve starts or ends at 0."""
    assert min(ours(name, warmup_epochs=warmup_epochs, **values)) > 0


def test_a_step_falls_after_an_epoch_s_last_update_and_before_the_first_of_the_next() -> None:
    """Updates 0 to 34 are of the first five epochs."""
    for name, values in (("step", {"step_epochs": 5}), ("multi_step", {"milestones": [5]})):
        rates = ours(name, warmup_epochs=0, gamma=0.5, **values)
        assert rates[34:36] == [1.0, 0.5]


SETTINGS: dict[str, dict[str, Any]] = {
    "constant": {},
    "cosine": {},
    "polynomial": {"power": 2},
    "one_cycle": {"pct_start": 0.3, "initial_factor": 0.2, "final_factor": 0.1},
    "step": {"step_epochs": 5, "gamma": 0.1},
    "multi_step": {"milestones": [3, 6], "gamma": 0.1},
    "plateau": {"factor": 0.1, "patience": 1, "threshold": 0.0},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_warms_up_in_a_line(name: str) -> None:
    factors = [SCHEDULES[name](time, EPOCHS, [], warmup_epochs=2, **SETTINGS[name]) for time in (0, 0.5, 1, 1.5, 2)]
    assert factors[-1] > 0
    assert factors == pytest.approx([factors[-1] * share for share in (0, 0.25, 0.5, 0.75, 1)])


@pytest.mark.parametrize("name", ["cosine", "polynomial", "one_cycle"])
def test_a_curve_to_the_end_begins_after_the_warm_up(name: str) -> None:
    for time in (0, 1.5, 4, 9, 10):
        late = SCHEDULES[name](2 + time, EPOCHS, [], warmup_epochs=2, **SETTINGS[name])
        assert late == pytest.approx(SCHEDULES[name](time, EPOCHS - 2, [], warmup_epochs=0, **SETTINGS[name]))
