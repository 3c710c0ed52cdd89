"""Optimizers by name. To add one: a function ``(groups, *, ...)`` with typed keywords, and a line in OPTIMIZERS.

groups: dicts as torch takes them, each with its ``params``. A ``weight_decay`` in one stands before the keyword's.

torch is imported inside: the signatures are also needed where params.yaml is checked, which takes no torch.
"""

from collections.abc import Callable
from typing import Annotated, Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

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


NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Every batch and instance norm, and the others; torchvision's LayerNorm2d is a LayerNorm."""


def parameter_groups(
    network: nn.Module, *, head: str, backbone_lr_factor: float, decay_norms_and_biases: bool
) -> list[dict[str, Any]]:
    """All parameters of the network, frozen ones too, in groups for an optimizer, none of them empty.

    head: path of the layer, as in ``get_submodule``, that learns at the full rate; all others are the backbone.
    decay_norms_and_biases: where false, biases and all that belongs to a norm layer get ``weight_decay`` 0.

    Returns dicts of ``params``, ``lr_factor`` (by which the group's learning rate is to be multiplied, 1 for the head)
    and, where it is 0, ``weight_decay``. With a factor of 1 and decay for all it is one group, in the network's order.
    """
    undecayed = {
        f"{path}.{name}" if path else name
        for path, layer in network.named_modules()
        for name, _ in layer.named_parameters(recurse=False)
        if isinstance(layer, NORMS) or name.endswith("bias")  # attention's is in_proj_bias
    }
    prefix = f"{head}." if head else ""
    assert any(name.startswith(prefix) for name, _ in network.named_parameters()), f"no parameters at {head}"
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        lr_factor = 1.0 if name.startswith(prefix) else backbone_lr_factor
        decays = decay_norms_and_biases or name not in undecayed
        unlike_others = {} if decays else {"weight_decay": 0.0}
        group = groups.setdefault((lr_factor, decays), {"params": [], "lr_factor": lr_factor, **unlike_others})
        group["params"].append(parameter)
    return list(groups.values())
