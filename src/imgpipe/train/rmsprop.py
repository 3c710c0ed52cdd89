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

    It takes a GradScaler's numbers, as torch's fused optimizers do, so that Python does not wait for a GPU: it divides
    by ``grad_scale``, and where ``found_inf`` is not 0 all stays as it was.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, alpha: float, momentum: float, weight_decay: float
    ) -> None:
        """Take the parameters. alpha: share that the mean of squared gradients keeps in each step."""
        super().__init__(groups, {"lr": lr, "alpha": alpha, "momentum": momentum, "weight_decay": weight_decay})
        self._step_supports_amp_scaling = True  # by which torch.amp.GradScaler.step knows

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None, "nothing here computes a loss again"
        # a GradScaler sets these for the time of a step
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                gradients = [parameter.grad for parameter in parameters]
                if grad_scale is not None:
                    gradients = list(torch._foreach_div(gradients, grad_scale))
                squares, buffers = (self._states(parameters, name) for name in ("square_avg", "momentum_buffer"))
                if found_inf is None:
                    _update(parameters, gradients, squares, buffers, group)
                    continue
                changed = [*parameters, *squares, *buffers]
                before = [value.clone() for value in changed]
                _update(parameters, gradients, squares, buffers, group)
                for value, earlier in zip(changed, before, strict=True):
                    value.copy_(torch.where(found_inf > 0, earlier, value))

    def _states(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        """Return what is kept for each parameter by this name, 0 at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def _update(
    parameters: list[Tensor],
    gradients: list[Tensor],
    squares: list[Tensor],
    buffers: list[Tensor],
    group: dict[str, Any],
) -> None:
    """Update parameters, their mean squared gradients and their momentum buffers, in place."""
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
