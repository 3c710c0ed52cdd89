"""Which of a network's weights stay as they are while the others are trained.

torch is imported inside: the stage that imports this is also where params.yaml is checked, which takes no torch.
"""

from typing import TYPE_CHECKING

from imgpipe.common.errors import InputError
from imgpipe.model.networks import head_of

if TYPE_CHECKING:
    from torch import nn


def frozen_in(epoch: int, *, freeze: str, unfreeze_epoch: int | None) -> str:
    """What is frozen in an epoch, counted from 1: ``freeze``, or from ``unfreeze_epoch`` on ``none``.

    >>> [frozen_in(epoch, freeze="backbone", unfreeze_epoch=3) for epoch in (1, 2, 3, 4)]
    ['backbone', 'backbone', 'none', 'none']
    """
    return "none" if unfreeze_epoch is not None and epoch >= unfreeze_epoch else freeze


def apply_freezing(network: "nn.Module", frozen: str) -> None:
    """Sets which parameters are trained, whatever was before. To be called after each ``network.train()``.

    frozen: ``none``; or ``batchnorm``: the parameters and running statistics of every BatchNorm, which is put in
    evaluation mode: otherwise its statistics would move on, and it would not use them. ``backbone``: those, and all
    other parameters but the head's (``head_of``); dropout goes on.

    Raises InputError where there is no BatchNorm to freeze.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    if frozen == "batchnorm" and not norms:
        raise InputError("params.yaml: model.freeze is 'batchnorm', and the model has none; use none or backbone")
    network.requires_grad_(frozen != "backbone")
    network.get_submodule(head_of(network)).requires_grad_(True)
    for norm in norms if frozen != "none" else []:
        norm.requires_grad_(False).eval()
