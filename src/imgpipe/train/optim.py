"""Optimizers by name. To add one: a function ``(groups, *, ...)`` with typed keywords, and a line in OPTIMIZERS.

groups: dicts as torch takes them, each with its ``params``. A ``weight_decay`` in one stands before the keyword's.

torch is imported inside: the signatures are also needed where params.yaml is checked, which takes no torch.
"""

from collections.abc import Callable
from typing import Annotated, Any

from imgpipe.common.rules import Interval

Groups = list[dict[str, Any]]
Positive = Annotated[float, Interval(low=0, open_low=True)]
Decay = Annotated[float, Interval(low=0)]
Moment = Annotated[float, Interval(0, 1, open_high=True)]


def sgd(groups: Groups, *, lr: Positive, momentum: Moment, weight_decay: Decay, nesterov: bool) -> Any:
    """Stochastic gradient descent: torch.optim.SGD. Without momentum, nesterov makes no difference."""
    import torch

    nesterov = nesterov and momentum > 0  # torch refuses the two together
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def adam(groups: Groups, *, lr: Positive, beta1: Moment, beta2: Moment, weight_decay: Decay) -> Any:
    """torch.optim.Adam (Kingma and Ba 2015, algorithm 1), the decay as part of the gradient."""
    import torch

    return torch.optim.Adam(groups, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def adamw(groups: Groups, *, lr: Positive, beta1: Moment, beta2: Moment, weight_decay: Decay) -> Any:
    """Adam with decoupled weight decay: torch.optim.AdamW (Loshchilov and Hutter 2019, algorithm 2)."""
    import torch

    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def rmsprop(groups: Groups, *, lr: Positive, alpha: Moment, momentum: Moment, weight_decay: Decay) -> Any:
    """torch.optim.RMSprop (Hinton 2012, lecture 6e). alpha: of the mean of squared gradients."""
    import torch

    return torch.optim.RMSprop(groups, lr=lr, alpha=alpha, momentum=momentum, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[..., Any]] = {"sgd": sgd, "adam": adam, "adamw": adamw, "rmsprop": rmsprop}
