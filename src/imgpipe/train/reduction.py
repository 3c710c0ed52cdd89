"""Sum gradients and BatchNorm's statistics over a batch, bit-identical for any number of processes.

Addition of floats is commutative but not associative, so the order of a sum shows in its bits. Here it is that of a
binary tree over the numbered micro-batches, ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), whichever process computed
which. The numbers of micro-batches and of processes are powers of two, so a process has a whole subtree.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from imgpipe.model.devices import World
from imgpipe.train.exchange import Exchange


class PartialSums:
    """Keeps the sums of the terms so far, as a binary counter: two sums of equally many terms are merged into one.

    A term is a list of tensors, which are modified in place. After 6 terms there are two sums, of 4 and of 2 terms.
    """

    def __init__(self) -> None:
        self.sums: list[tuple[int, list[Tensor]]] = []

    def add(self, term: list[Tensor]) -> None:
        """Add a term."""
        count = 1
        while self.sums and self.sums[-1][0] == count:
            _, earlier = self.sums.pop()
            torch._foreach_add_(earlier, term)
            term = earlier
            count *= 2
        self.sums.append((count, term))

    def complete(self, last: list[Tensor], indices: Sequence[int]) -> None:
        """Add all terms so far to one more term, in place, in the order of the tree. These sums stay as they are.

        last: the term's tensors of these indices.
        """
        for _, earlier in reversed(self.sums):
            torch._foreach_add_(last, [earlier[index] for index in indices])


class FixedTree:
    """Sums a module's gradients and BatchNorm statistics over the micro-batches of a batch, in the fixed tree.

    For each batch a process calls ``start_batch`` and computes its micro-batches inside ``micro_batch``. After the last
    one, each ``grad`` is the sum over the micro-batches of all processes. Each running statistic of BatchNorm is the
    weighted mean of the values that each micro-batch alone would give it, starting from the value before the batch.
    """

    def __init__(self, module: nn.Module, world: World) -> None:
        """Take the module's parameters that are trained now, and the BatchNorms that are in training mode.

        The number of processes and that of each one's micro-batches must be powers of two.
        """
        self._module = module
        self._parameters, norms = _trained(module)
        self._indices = {parameter: index for index, parameter in enumerate(self._parameters)}
        self._statistics = _flattened(norms, "running_mean", "running_var")
        self._counters = _flattened(norms, "num_batches_tracked")
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            self._parallel = DistributedDataParallel(module, gradient_as_bucket_view=True)
            self._parallel.broadcast_buffers = False  # they are equal after every batch
            self._parallel.register_comm_hook(None, self._sum_bucket)
            self._exchange = Exchange(world)

    @classmethod
    def for_trained(cls, module: nn.Module, world: World, earlier: Self | None) -> Self:
        """Return a tree of what is trained now: the earlier one, if it is of the same parameters."""
        trained, _ = _trained(module)
        if earlier is not None and list(map(id, trained)) == list(map(id, earlier._parameters)):
            return earlier
        return cls(module, world)

    def start_batch(self) -> None:
        """Forget the batch before; to be called before the first micro-batch of each."""
        self._before_batch = [(buffers, buffers.clone()) for buffers in (self._statistics, self._counters)]
        self._gradient_sums, self._statistic_sums = PartialSums(), PartialSums()

    @contextmanager
    def micro_batch(self, weight: float, *, last: bool) -> Iterator[nn.Module]:
        """Yield the module to run forward and backward on a micro-batch.

        weight: its share of the batch's images, by which the loss is to be multiplied.
        last: whether it is the last of this process's.
        """
        for buffers, value in self._before_batch:
            buffers.copy_(value)
        self._weight = weight
        if self._parallel is None:
            yield self._module
        elif last:
            try:
                yield self._parallel  # its backward pass calls _sum_bucket
            except RuntimeError:
                if self._exchange.failure:
                    raise self._exchange.failure from None
                raise
        else:
            with self._parallel.no_sync():
                yield self._parallel
        if not last:
            self._gradient_sums.add([self._take_gradient(parameter) for parameter in self._parameters])
            self._statistic_sums.add([self._statistics * weight])
        elif self._parallel is None:
            gradients = [self._take_gradient(parameter) for parameter in self._parameters]
            self._gradient_sums.complete(gradients, range(len(gradients)))
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            self._statistics.copy_(self._sum_statistics())
        else:
            self._statistics.copy_(self._summed_statistics.wait())

    def _take_gradient(self, parameter: nn.Parameter) -> Tensor:
        """Take away the gradient of the micro-batch just done, so that the next one's is not added to it."""
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        parameter.grad = None
        return gradient

    def _sum_statistics(self) -> Tensor:
        """Return the weighted means of BatchNorm's statistics over this process's micro-batches."""
        last = self._statistics * self._weight
        self._statistic_sums.complete([last], [0])
        return last

    def _sum_bucket(
        self,
        _: None,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> Future[Tensor]:
        """Make the sum over all micro-batches of a bucket of the last one's gradients, while the backward pass goes on.

        DistributedDataParallel calls it in the backward pass of the last micro-batch, once for each of the buckets into
        which it sorts the parameters (``register_comm_hook``), in their order. The result is a sum and not a mean over
        the processes: the losses are weighted already.
        """
        if bucket.index() == 0:  # the forward pass is over
            self._summed_statistics = self._exchange.beside(lambda: self._exchange.sum_in_place(self._sum_statistics()))
        flat, gradients, indices, offset = bucket.buffer(), [], [], 0
        for parameter in bucket.parameters():
            # GradBucket.gradients() ignores the strides of channels_last parameters
            strides, place = parameter.stride(), flat.storage_offset() + offset
            gradients.append(flat.as_strided(parameter.shape, strides, place))
            indices.append(self._indices[parameter])
            offset += parameter.numel()

        def work() -> Tensor:
            self._gradient_sums.complete(gradients, indices)
            return self._exchange.sum_in_place(flat)

        return self._exchange.beside(work)


def _trained(module: nn.Module) -> tuple[list[nn.Parameter], list[_BatchNorm]]:
    """Return the parameters that are trained, and the BatchNorms whose running statistics move on."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return parameters, [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]


ALIGNED = 16
"""Numbers to a multiple of which each buffer in a flat tensor is padded, so that it begins where a vector may."""


def _flattened(norms: Sequence[_BatchNorm], *names: str) -> Tensor:
    """Make the buffers of these names views of one new tensor, which is one operation to copy or to add, and return it.

    It is empty where there are none.
    """
    found = ((norm, name, getattr(norm, name)) for norm in norms for name in names)
    places, end = [], 0
    for norm, name, buffer in found:
        if buffer is not None:
            places.append((norm, name, buffer, end))
            end += -(-buffer.numel() // ALIGNED) * ALIGNED
    flat = places[0][2].new_zeros(end) if places else torch.empty(0)
    for norm, name, buffer, start in places:
        view = flat[start : start + buffer.numel()].view(buffer.shape)
        setattr(norm, name, view.copy_(buffer))
    return flat
