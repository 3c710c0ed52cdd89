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
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self._update(parameters, [parameter.grad for parameter in parameters], group)

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                for name in ("square_avg", "momentum_buffer"):
                    self.state[parameter][name] = torch.zeros_like(parameter)
        squares, buffers = (
            [self.state[parameter][name] for parameter in parameters] for name in ("square_avg", "momentum_buffer")
        )
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["alpha"])
        roots = torch._foreach_rsqrt(squares)
        torch._foreach_reciprocal_(roots)
        torch._foreach_add_(roots, EPSILON)  # of 0 the root is 0, too
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_addcdiv_(buffers, gradients, roots)
        torch._foreach_add_(parameters, buffers, alpha=-group["lr"])
