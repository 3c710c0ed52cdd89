"""Optimizers by name. To add one: a function ``(parameters, *, ...)`` with typed keywords, and a line in OPTIMIZERS.

torch is imported inside: the signatures are also needed where params.yaml is checked, which takes no torch.
"""

from collections.abc import Callable
from typing import Annotated, Any

from imgpipe.rules import Interval

Positive = Annotated[float, Interval(low=0, open_low=True)]
Decay = Annotated[float, Interval(low=0)]
Moment = Annotated[float, Interval(0, 1, open_high=True)]


def sgd(parameters: Any, *, lr: Positive, momentum: Moment, weight_decay: Decay, nesterov: bool) -> Any:
    """Stochastic gradient descent: torch.optim.SGD. Without momentum, nesterov makes no difference."""
    import torch

    nesterov = nesterov and momentum > 0  # torch refuses the two together
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def adamw(parameters: Any, *, lr: Positive, beta1: Moment, beta2: Moment, weight_decay: Decay) -> Any:
    """Adam with decoupled weight decay: torch.optim.AdamW (Loshchilov and Hutter 2019, algorithm 2)."""
    import torch

    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[..., Any]] = {"sgd": sgd, "adamw": adamw}
