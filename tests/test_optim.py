"""Optimizers against their formulas, schedules at points worked out by hand."""

import math

import pytest
import torch

from imgpipe.optim import OPTIMIZERS
from imgpipe.schedules import SCHEDULES


def stepped(name: str, gradients: list[float], start: float = 2.0, **values: float | bool) -> float:
    """A single weight after a step for each gradient."""
    weight = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([weight], **values)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return weight.item()


def test_sgd_with_momentum_and_weight_decay() -> None:
    """g = 1 + 0.5 * 2 = 2, w = 2 - 0.1 * 2 = 1.8; then g = 1 + 0.9 = 1.9, v = 0.5 * 2 + 1.9 = 2.9, w = 1.51."""
    values = {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.5}
    assert stepped("sgd", [1.0, 1.0], **values, nesterov=False) == pytest.approx(1.51)


def test_nesterov_looks_ahead() -> None:
    """g = 1, v = 1, w = 2 - 0.1 (1 + 0.5) = 1.85; then v = 1.5, w = 1.85 - 0.1 (1 + 0.75) = 1.675."""
    values = {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.0}
    assert stepped("sgd", [1.0, 1.0], **values, nesterov=True) == pytest.approx(1.675)


def test_nesterov_without_momentum_is_plain_descent() -> None:
    values = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    assert stepped("sgd", [1.0, 1.0], **values, nesterov=True) == pytest.approx(1.8)


def test_adamw_decays_the_weight_apart_from_the_gradient() -> None:
    """Algorithm 2 of Loshchilov and Hutter 2019, two steps in plain numbers."""
    lr, beta1, beta2, decay, epsilon = 0.1, 0.8, 0.95, 0.3, 1e-8
    weight, m, v = 2.0, 0.0, 0.0
    for t, g in enumerate([1.0, -3.0], start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        update = (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon)
        weight = weight - lr * decay * weight - lr * update
    values = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    assert stepped("adamw", [1.0, -3.0], **values) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("name", "values", "points"),
    [
        ("constant", {"warmup_epochs": 0}, {0: 1, 7: 1}),
        ("constant", {"warmup_epochs": 4}, {0: 0, 1: 0.25, 4: 1, 7: 1}),
        ("cosine", {"warmup_epochs": 0}, {0: 1, 2: 0.5 + math.sqrt(0.125), 4: 0.5, 8: 0}),
        ("cosine", {"warmup_epochs": 2}, {1: 0.5, 2: 1, 5: 0.5, 8: 0}),
        ("cosine", {"warmup_epochs": 8}, {4: 0.5, 8: 1}),
        ("step", {"warmup_epochs": 0, "step_epochs": 3, "gamma": 0.1}, {2.9: 1, 3: 0.1, 6: 0.01}),
        ("step", {"warmup_epochs": 2, "step_epochs": 3, "gamma": 0.1}, {1: 0.5, 3: 0.1}),
    ],
)
def test_schedules_pass_these_points(name: str, values: dict[str, float], points: dict[float, float]) -> None:
    """Over 8 epochs."""
    for epoch, factor in points.items():
        assert SCHEDULES[name](epoch, 8, **values) == pytest.approx(factor), epoch
