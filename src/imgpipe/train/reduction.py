"""Sum gradients and BatchNorm's statistics over a batch, bit-identical for any number of processes.

Addition of floats is commutative but not associative, so the order of a sum shows in its bits. Here it is that of a
binary tree over the numbered micro-batches, ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), whichever process computed
which. The numbers of micro-batches and of processes are powers of two, so a process has a whole subtree.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from imgpipe.model.devices import World


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
            term = [a.add_(b) for a, b in zip(earlier, term, strict=True)]
            count *= 2
        self.sums.append((count, term))

    def total(self, index: int, final: Tensor) -> Tensor:
        """Return the sum of the terms' tensors of this index, and of one more term's, without adding that term."""
        for _, earlier in reversed(self.sums):
            final = earlier[index] + final
        return final


def tree_sum(terms: Tensor) -> Tensor:
    """Sum over the first axis, whose length is a power of two, in the order of the tree."""
    while len(terms) > 1:
        terms = terms[0::2] + terms[1::2]
    return terms[0]


def sum_over_processes(flat: Tensor, world: World) -> None:
    """Replace the tensor, of one dimension, with its sum over the processes, in the order of the tree.

    Each process sums a slice: it moves as many bytes as an ordinary all-reduce, straight out of the tensor and into it.
    """
    bounds = [len(flat) * rank // world.size for rank in range(world.size + 1)]
    slices = [flat[start:end] for start, end in pairwise(bounds)]
    mine = slices[world.rank]
    terms = flat.new_empty(world.size, len(mine))
    terms[world.rank] = mine
    _exchange(slices, list(terms), world)
    mine.copy_(tree_sum(terms))
    _exchange([mine] * world.size, slices, world)


def _exchange(sent: list[Tensor], received: list[Tensor], world: World) -> None:
    """Send each other process its tensor, and fill those that come from them."""
    others = [rank for rank in range(world.size) if rank != world.rank]
    messages = [dist.P2POp(dist.isend, sent[rank], rank) for rank in others if len(sent[rank])]
    messages += [dist.P2POp(dist.irecv, received[rank], rank) for rank in others if len(received[rank])]
    for message in dist.batch_isend_irecv(messages) if messages else []:
        message.wait()


class FixedTree:
    """Sums a module's gradients and BatchNorm statistics over the micro-batches of a batch, in the fixed tree.

    For each batch a process calls ``start_batch`` and computes its micro-batches inside ``micro_batch``. After the last
    one, each ``grad`` is the sum over the micro-batches of all processes. Each running statistic of BatchNorm is the
    weighted mean of the values that each micro-batch alone would give it, starting from the value before the batch.
    """

    def __init__(self, module: nn.Module, world: World) -> None:
        """Take the module's parameters that are trained now.

        The number of processes and that of each one's micro-batches must be powers of two.
        """
        self._world = world
        self._module = module
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._indices = {parameter: index for index, parameter in enumerate(self._parameters)}
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            self._parallel = DistributedDataParallel(module)
            self._parallel.register_comm_hook(None, self._sum_bucket)
            self._messenger = ThreadPoolExecutor(1)  # one, so that every process sums the buckets in the same order

    @classmethod
    def for_trained(cls, module: nn.Module, world: World, earlier: Self | None) -> Self:
        """Return a tree of the parameters that are trained now: the earlier one, if it is of the same."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if earlier is not None and list(map(id, trained)) == list(map(id, earlier._parameters)):
            return earlier
        return cls(module, world)

    def start_batch(self) -> None:
        """Forget the batch before; to be called before the first micro-batch of each."""
        norms = [layer for layer in self._module.modules() if isinstance(layer, _BatchNorm) and layer.training]
        self._statistics = [s for layer in norms for s in (layer.running_mean, layer.running_var) if s is not None]
        self._buffers_before_batch = [(buffer, buffer.clone()) for layer in norms for buffer in layer.buffers()]
        self._gradient_sums, self._statistic_sums = PartialSums(), PartialSums()

    @contextmanager
    def micro_batch(self, weight: float, *, last: bool) -> Iterator[nn.Module]:
        """Yield the module to run forward and backward on a micro-batch.

        weight: its share of the batch's images, by which the loss is to be multiplied.
        last: whether it is the last of this process's.
        """
        for buffer, value in self._buffers_before_batch:
            buffer.copy_(value)
        if self._parallel is None:
            yield self._module
        elif last:
            yield self._parallel  # its backward pass calls _sum_bucket
        else:
            with self._parallel.no_sync():
                yield self._parallel
        if not last:
            self._gradient_sums.add([self._take_gradient(parameter) for parameter in self._parameters])
            self._statistic_sums.add([statistic * weight for statistic in self._statistics])
            return
        if self._parallel is None:
            for index, parameter in enumerate(self._parameters):
                parameter.grad = self._gradient_sums.total(index, self._take_gradient(parameter))
        self._average_statistics(weight)

    def _take_gradient(self, parameter: nn.Parameter) -> Tensor:
        """Take away the gradient of the micro-batch just done, so that the next one's is not added to it."""
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        parameter.grad = None
        return gradient

    def _sum_bucket(
        self,
        _: None,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[Tensor]:
        """Make the sum over all micro-batches of a bucket of the last one's gradients.

        DistributedDataParallel calls it in the backward pass of the last micro-batch, once for each of the buckets into
        which it sorts the parameters (``register_comm_hook``). The result is a sum and not a mean over the processes:
        the losses are weighted already.
        """
        flat = bucket.buffer()
        offset = 0
        for parameter in bucket.parameters():
            # GradBucket.gradients() ignores the strides of channels_last parameters
            gradient = flat.as_strided(parameter.shape, parameter.stride(), flat.storage_offset() + offset)
            gradient.copy_(self._gradient_sums.total(self._indices[parameter], gradient))
            offset += parameter.numel()
        future: torch.futures.Future[Tensor] = torch.futures.Future(devices=[flat.device] if flat.is_cuda else None)

        def finish() -> None:
            try:
                sum_over_processes(flat, self._world)
                future.set_result(flat)
            except Exception as error:
                future.set_exception(error)  # type: ignore[arg-type]  # what its annotation says is wrong

        if flat.is_cuda:
            finish()  # in the order of the stream that computes
        else:
            self._messenger.submit(finish)  # while the backward pass goes on
        return future

    def _average_statistics(self, last_weight: float) -> None:
        """Put the weighted means over all micro-batches into BatchNorm's running statistics."""
        if not self._statistics:
            return
        sums = [self._statistic_sums.total(index, s * last_weight) for index, s in enumerate(self._statistics)]
        flat = torch.cat([s.flatten() for s in sums])
        if self._world.size > 1:
            sum_over_processes(flat, self._world)
        for statistic, mean in zip(self._statistics, flat.split([s.numel() for s in self._statistics]), strict=True):
            statistic.copy_(mean.view_as(statistic))
