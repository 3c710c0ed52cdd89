"""A moving average of the weights, which often does better than the weights themselves (Polyak and Juditsky 1992)."""

import copy

import torch
from torch import nn


class MovingAverage:
    """The exponential moving average of a module's parameters and floating-point buffers; other buffers are copied.

    module: holds the average, of the same class as the one averaged, in the same memory format, without gradients and
    in evaluation mode. Its ``state_dict`` is all that there is to save: there is no other state.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        """It starts at the module's present state. decay: share of the average that each update keeps, 0 to 1."""
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """After each step: average = decay * average + (1 - decay) * module."""
        averages, values = ([*m.parameters(), *m.buffers()] for m in (self.module, module))
        floating = [average.is_floating_point() for average in averages]
        torch._foreach_lerp_(
            [average for average, is_float in zip(averages, floating, strict=True) if is_float],
            [value for value, is_float in zip(values, floating, strict=True) if is_float],
            1 - self.decay,
        )
        for average, value, is_float in zip(averages, values, floating, strict=True):
            if not is_float:
                average.copy_(value)
