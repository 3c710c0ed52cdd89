"""Optimizers by name, and the groups of parameters that they treat alike.

torch is imported inside the functions: params.yaml's check reads their signatures, and takes no torch.

To add an optimizer: a function ``(groups, *, ...)`` and a line in OPTIMIZERS. Its annotated keywords are its keys in
params.yaml.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from imgpipe.common.rules import Interval

if TYPE_CHECKING:
    from torch import nn

Groups = list[dict[str, Any]]
"""Parameter groups as torch takes them, each with its ``params``; a group's ``weight_decay`` stands before the
optimizer's."""

Positive = Annotated[float, Interval(low=0, open_low=True)]
Decay = Annotated[float, Interval(low=0)]
Moment = Annotated[float, Interval(0, 1, open_high=True)]


def sgd(groups: Groups, *, lr: Positive, momentum: Moment, weight_decay: Decay, nesterov: bool) -> Any:
    """Construct stochastic gradient descent: torch.optim.SGD. Without momentum, nesterov makes no difference."""
    import torch

    nesterov = nesterov and momentum > 0  # torch refuses the two together
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def adam(groups: Groups, *, lr: Positive, beta1: Moment, beta2: Moment, weight_decay: Decay) -> Any:
    """Construct torch.optim.Adam (Kingma and Ba 2015, algorithm 1), with the decay as part of the gradient."""
    import torch

    return torch.optim.Adam(groups, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def adamw(groups: Groups, *, lr: Positive, beta1: Moment, beta2: Moment, weight_decay: Decay) -> Any:
    """Construct Adam with decoupled weight decay: torch.optim.AdamW (Loshchilov and Hutter 2019, algorithm 2)."""
    import torch

    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def rmsprop(groups: Groups, *, lr: Positive, alpha: Moment, momentum: Moment, weight_decay: Decay) -> Any:
    """Construct torch.optim.RMSprop (Hinton 2012, lecture 6e).

    alpha: share that the mean of squared gradients keeps in each step.
    """
    import torch

    return torch.optim.RMSprop(groups, lr=lr, alpha=alpha, momentum=momentum, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[..., Any]] = {"sgd": sgd, "adam": adam, "adamw": adamw, "rmsprop": rmsprop}


def parameter_groups(
    network: "nn.Module", *, head: str, backbone_lr_factor: float, decay_norms_and_biases: bool
) -> Groups:
    """Sort all parameters of the network, frozen ones too, into groups for an optimizer, none of them empty.

    head: path of the layer, as in ``get_submodule``, that learns at the full rate; all others are the backbone.
    backbone_lr_factor: by which the backbone's learning rate is to be multiplied.
    decay_norms_and_biases: where false, biases and all that belongs to a norm layer get ``weight_decay`` 0.

    Returns the groups: dicts of ``params``, ``lr_factor`` and, where it is 0, ``weight_decay``. With a factor of 1 and
    decay for all it is one group, in the network's order.
    """
    undecayed = set() if decay_norms_and_biases else _norms_and_biases(network)
    prefix = f"{head}." if head else ""
    assert any(name.startswith(prefix) for name, _ in network.named_parameters()), f"no parameters at {head}"
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        lr_factor = 1.0 if name.startswith(prefix) else backbone_lr_factor
        decays = name not in undecayed
        unlike_others = {} if decays else {"weight_decay": 0.0}
        group = groups.setdefault((lr_factor, decays), {"params": [], "lr_factor": lr_factor, **unlike_others})
        group["params"].append(parameter)
    return list(groups.values())


def _norms_and_biases(network: "nn.Module") -> set[str]:
    """Return the names of all biases, and of all parameters of norm layers."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase  # of every batch and instance norm

    norms = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # torchvision's LayerNorm2d is a LayerNorm
    return {
        f"{path}.{name}" if path else name
        for path, layer in network.named_modules()
        for name, _ in layer.named_parameters(recurse=False)
        if isinstance(layer, norms) or name.endswith("bias")  # attention's is in_proj_bias
    }
