"""Gradient checkpointing: less memory for more computing.

A network keeps for the backward pass only what each of its pieces was given, and computes the rest again when the
backward pass gets there (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost).
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from imgpipe.common.errors import InputError
from imgpipe.model.networks import Head

POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def recompute_in_backward(network: nn.Module) -> None:
    """Makes the network compute its pieces again in the backward pass, in place. The results have the same bits.

    Pieces are what stands in the outermost nn.Sequentials, and in Sequentials directly within: a block, such as one of
    ResNet's, or plain layers in a row, up to a pooling, after which there is least to keep. What stands elsewhere is
    computed once. Random numbers are drawn the same again, and BatchNorm's running statistics move on once.

    Raises InputError where there are no such pieces, as in Inception v3.
    """
    rows = list(_rows(network))
    if not rows:
        raise InputError(
            "params.yaml: train.gradient_checkpointing is true, and the model has no layers in a row to compute again; "
            "make it false"
        )
    for row in rows:
        row.forward = MethodType(_forward, row)  # which keeps the names of the weights


def _rows(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost rows of layers, and those that stand in a row themselves."""
    if _is_a_row(network):
        yield network
    for layer in network.children():
        if _is_a_row(layer) or not _is_a_row(network):
            yield from _rows(layer)


def _is_a_row(layer: nn.Module) -> bool:
    """Whether its forward pass is that of nn.Sequential; a head keeps little."""
    of_sequential = isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward
    return of_sequential and not isinstance(layer, Head)


def _forward(row: nn.Sequential, features: Tensor) -> Tensor:
    """What nn.Sequential computes."""
    for piece in _pieces(row):
        last = piece[-1]
        keeps_little = len(piece) == 1 and (_is_a_row(last) or _is_plain(last))
        if keeps_little or not torch.is_grad_enabled():
            features = _through(piece, features)
        else:
            features = _recomputed(piece, features)
    return features


def _pieces(row: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """The layers of a row in groups to be computed again together."""
    group: list[nn.Module] = []
    for layer in row:
        changes_what_it_is_given = not group and getattr(layer, "inplace", False)
        alone = not _is_plain(layer) or changes_what_it_is_given
        if alone and group:
            yield group
            group = []
        group.append(layer)
        if alone or isinstance(layer, POOLS):
            yield group
            group = []
    if group:
        yield group


def _is_plain(layer: nn.Module) -> bool:
    return next(layer.children(), None) is None


def _through(piece: Iterable[nn.Module], features: Tensor) -> Tensor:
    for layer in piece:
        features = layer(features)
    return features


def _recomputed(piece: list[nn.Module], features: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(piece)

    if torch.compiler.is_compiling():  # which takes no such contexts and needs none: what changes a buffer runs once
        return checkpoint(_through, piece, features, use_reentrant=False)
    return checkpoint(_through, piece, features, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(piece: list[nn.Module]) -> Iterator[None]:
    """Within it BatchNorm moves copies of its running statistics."""
    norms = [part for layer in piece for part in layer.modules() if isinstance(part, _BatchNorm)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
