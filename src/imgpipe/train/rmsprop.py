"""RMSprop whose bits do not depend on the processor."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8


class RMSprop(torch.optim.Optimizer):
    """Does what torch.optim.RMSprop does (Hinton 2012, lecture 6e), with another root.

    torch.sqrt on a CPU is that of MKL, which begins with an approximate root that each processor makes in its own way.
    torch.rsqrt divides by a root that is rounded as IEEE 754 asks.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, alpha: float, momentum: float, weight_decay: float
    ) -> None:
        """Take the parameters. alpha: share that the mean of squared gradients keeps in each step."""
        super().__init__(groups, {"lr": lr, "alpha": alpha, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None, "nothing here computes a loss again"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["square_avg"] = torch.zeros_like(parameter)
            state["momentum_buffer"] = torch.zeros_like(parameter)
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        square: Tensor = state["square_avg"]
        square.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
        root = square.rsqrt().reciprocal_().add_(EPSILON)  # of 0 it is 0, too
        buffer: Tensor = state["momentum_buffer"]
        buffer.mul_(group["momentum"]).addcdiv_(gradient, root)
        parameter.add_(buffer, alpha=-group["lr"])
