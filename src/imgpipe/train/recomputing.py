"""Gradient checkpointing: less memory for more computing.

A network keeps for the backward pass only what each of its segments was given, and computes the rest again when the
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
    """Make the network compute its segments again in the backward pass, in place. The results have the same bits.

    The outermost nn.Sequentials, and those directly within them, are cut into segments: a block, such as one of
    ResNet's, or plain layers up to a pooling, after which there is least to keep. What stands elsewhere is computed
    once. Random numbers are drawn the same again, and BatchNorm's running statistics move on once.

    Raises InputError where there is nothing to cut, as in Inception v3.
    """
    sequentials = list(_sequentials(network))
    if not sequentials:
        raise InputError(
            "params.yaml: train.gradient_checkpointing is true, and the model has no layers in a row to compute again; "
            "make it false"
        )
    for sequential in sequentials:
        sequential.forward = MethodType(_forward, sequential)  # which keeps the names of the weights


def _sequentials(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost nn.Sequentials, and those that stand directly within one."""
    if _is_sequential(network):
        yield network
    for layer in network.children():
        if _is_sequential(layer) or not _is_sequential(network):
            yield from _sequentials(layer)


def _is_sequential(layer: nn.Module) -> bool:
    """Return whether its forward pass is that of nn.Sequential; a head, which keeps little, does not count."""
    of_sequential = isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward
    return of_sequential and not isinstance(layer, Head)


def _forward(sequential: nn.Sequential, features: Tensor) -> Tensor:
    """Compute what nn.Sequential computes, in segments."""
    for segment in _segments(sequential):
        last = segment[-1]
        keeps_little = len(segment) == 1 and (_is_sequential(last) or _is_plain(last))
        if keeps_little or not torch.is_grad_enabled():
            features = _run(segment, features)
        else:
            features = _recomputed(segment, features)
    return features


def _segments(sequential: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Yield the layers in segments, each to be computed again as a whole."""
    segment: list[nn.Module] = []
    for layer in sequential:
        changes_what_it_is_given = not segment and getattr(layer, "inplace", False)
        alone = not _is_plain(layer) or changes_what_it_is_given
        if alone and segment:
            yield segment
            segment = []
        segment.append(layer)
        if alone or isinstance(layer, POOLS):
            yield segment
            segment = []
    if segment:
        yield segment


def _is_plain(layer: nn.Module) -> bool:
    """Return whether no other layers make up this one."""
    return next(layer.children(), None) is None


def _run(segment: Iterable[nn.Module], features: Tensor) -> Tensor:
    for layer in segment:
        features = layer(features)
    return features


def _recomputed(segment: list[nn.Module], features: Tensor) -> Tensor:
    """Run the segment, keeping nothing but the features, and again in the backward pass."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(segment)

    if torch.compiler.is_compiling():  # which takes no such contexts and needs none: what changes a buffer runs once
        return checkpoint(_run, segment, features, use_reentrant=False)
    return checkpoint(_run, segment, features, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(segment: list[nn.Module]) -> Iterator[None]:
    """Let BatchNorm move copies of its running statistics within the block, and put the real ones back after it."""
    norms = [part for layer in segment for part in layer.modules() if isinstance(part, _BatchNorm)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
