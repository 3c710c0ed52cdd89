"""Construct optimizers by name.

To add one, write a function ``(groups, *, ...)`` and a line in OPTIMIZERS. Its annotated keywords are its keys in
params.yaml. torch is imported inside the functions: the check of params.yaml reads their signatures and takes no torch.
"""

from collections.abc import Callable
from typing import Annotated, Any

from imgpipe.common.rules import Interval

Groups = list[dict[str, Any]]
"""Parameter groups as torch takes them, each with its ``params``; a group's ``weight_decay`` stands before the
optimizer's."""

Positive = Annotated[float, Interval(low=0, open_low=True)]
Decay = Annotated[float, Interval(low=0)]
Moment = Annotated[float, Interval(0, 1, open_high=True)]


def sgd(groups: Groups, *, lr: Positive, momentum: Moment, weight_decay: Decay, nesterov: bool) -> Any:
    """Construct stochastic gradient descent: torch.optim.SGD. Without momentum, nesterov makes no difference.

    On a GPU it is fused: with fp16's scaling only that form does not wait for the GPU in every step. On a CPU that form
    rounds the last few numbers of a tensor otherwise than the rest.
    """
    import torch

    nesterov = nesterov and momentum > 0  # torch refuses the two together
    fused = True if groups[0]["params"][0].is_cuda else None
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


def adam(groups: Groups, *, lr: Positive, beta1: Moment, beta2: Moment, weight_decay: Decay) -> Any:
    """Construct torch.optim.Adam (Kingma and Ba 2015, algorithm 1), with the decay as part of the gradient.

    Only the fused form has the same bits on every processor: it does not take MKL's root, see ``rmsprop.RMSprop``.
    """
    import torch

    return torch.optim.Adam(groups, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay, fused=True)


def adamw(groups: Groups, *, lr: Positive, beta1: Moment, beta2: Moment, weight_decay: Decay) -> Any:
    """Construct Adam with decoupled weight decay: torch.optim.AdamW (Loshchilov and Hutter 2019, algorithm 2).

    It is fused for the reason that ``adam`` is.
    """
    import torch

    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay, fused=True)


def rmsprop(groups: Groups, *, lr: Positive, alpha: Moment, momentum: Moment, weight_decay: Decay) -> Any:
    """Construct RMSprop (Hinton 2012, lecture 6e).

    alpha: share that the mean of squared gradients keeps in each step.
    """
    from imgpipe.train.rmsprop import RMSprop

    return RMSprop(groups, lr=lr, alpha=alpha, momentum=momentum, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[..., Any]] = {"sgd": sgd, "adam": adam, "adamw": adamw, "rmsprop": rmsprop}
