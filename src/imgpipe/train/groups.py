"""Which parameters decay, and which learn at which rate: the groups that an optimizer takes."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

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
