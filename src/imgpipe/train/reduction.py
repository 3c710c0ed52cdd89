"""Sum gradients and BatchNorm's statistics of a batch over its parts in a fixed tree: the same bits on any processes.

Addition of floats is commutative but not associative, so the order of a sum shows in its bits. Here it is that of a
binary tree over the numbered parts, ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), whichever process computed which. A
process with several parts in a row owns a whole subtree, since both numbers are powers of two.
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
    """Keeps the sums of the terms so far, as a binary counter: two sums of as many terms become one.

    A term is a list of tensors, which the sums take over. After 6 terms there are two sums, of 4 and of 2 terms.
    """

    def __init__(self) -> None:
        self.sums: list[tuple[int, list[Tensor]]] = []

    def add(self, term: list[Tensor]) -> None:
        count = 1
        while self.sums and self.sums[-1][0] == count:
            _, earlier = self.sums.pop()
            term = [a.add_(b) for a, b in zip(earlier, term, strict=True)]
            count *= 2
        self.sums.append((count, term))

    def with_last(self, place: int, last: Tensor) -> Tensor:
        """Return the whole sum of the tensors at one place of the terms, given that of the last term, not added yet."""
        for _, earlier in reversed(self.sums):
            last = earlier[place] + last
        return last


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
    """Sums a module's gradients and BatchNorm statistics over the parts of a batch, in the fixed tree.

    For each batch a process calls ``start_batch`` and computes its parts inside ``part``. After the last one ``grad``
    holds the sum over all parts of all processes, and a running statistic the mean over the parts of what each alone
    would have made of the one before the batch.
    """

    def __init__(self, module: nn.Module, world: World) -> None:
        """Take the parameters that want a gradient now.

        The number of processes and that of each one's parts must be powers of two.
        """
        self._world = world
        self._module = module
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._places = {parameter: place for place, parameter in enumerate(self._parameters)}
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            self._parallel = DistributedDataParallel(module)
            self._parallel.register_comm_hook(None, self._sum_bucket)
            self._messenger = ThreadPoolExecutor(1)  # one, so that every process sums the buckets in the same order

    @classmethod
    def following(cls, tree: Self | None, module: nn.Module, world: World) -> Self:
        """Return the tree if it is of the parameters that want a gradient now, else a new one."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        alike = tree is not None and list(map(id, trained)) == list(map(id, tree._parameters))
        return tree if tree is not None and alike else cls(module, world)

    def start_batch(self) -> None:
        """Forget the batch before; to be called before the first part of each."""
        norms = [layer for layer in self._module.modules() if isinstance(layer, _BatchNorm) and layer.training]
        self._statistics = [s for layer in norms for s in (layer.running_mean, layer.running_var) if s is not None]
        self._before = [(buffer, buffer.clone()) for layer in norms for buffer in layer.buffers()]
        self._gradient_sums, self._statistic_sums = PartialSums(), PartialSums()

    @contextmanager
    def part(self, share: float, *, last: bool) -> Iterator[nn.Module]:
        """Yield the module to run forward and backward on one part.

        share: of the batch's images; the loss is to be multiplied by it.
        last: whether it is the last of this process's parts.
        """
        for buffer, value in self._before:
            buffer.copy_(value)
        if self._parallel is None:
            yield self._module
        elif last:
            yield self._parallel  # its backward pass calls _sum_bucket
        else:
            with self._parallel.no_sync():
                yield self._parallel
        if not last:
            self._gradient_sums.add([self._taken(parameter) for parameter in self._parameters])
            self._statistic_sums.add([statistic * share for statistic in self._statistics])
            return
        if self._parallel is None:
            for place, parameter in enumerate(self._parameters):
                parameter.grad = self._gradient_sums.with_last(place, self._taken(parameter))
        self._average_statistics(share)

    def _taken(self, parameter: nn.Parameter) -> Tensor:
        """Take away the gradient of the part just done, so that the next part's is not added to it."""
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        parameter.grad = None
        return gradient

    def _sum_bucket(
        self,
        _: None,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[Tensor]:
        """Add all other parts' gradients to a bucket of the last part's: DistributedDataParallel's hook."""
        flat = bucket.buffer()
        offset = 0
        for parameter in bucket.parameters():
            # GradBucket.gradients() ignores the strides of channels_last parameters
            gradient = flat.as_strided(parameter.shape, parameter.stride(), flat.storage_offset() + offset)
            gradient.copy_(self._gradient_sums.with_last(self._places[parameter], gradient))
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

    def _average_statistics(self, last_share: float) -> None:
        if not self._statistics:
            return
        sums = [self._statistic_sums.with_last(place, s * last_share) for place, s in enumerate(self._statistics)]
        flat = torch.cat([s.flatten() for s in sums])
        if self._world.size > 1:
            sum_over_processes(flat, self._world)
        for statistic, mean in zip(self._statistics, flat.split([s.numel() for s in self._statistics]), strict=True):
            statistic.copy_(mean.view_as(statistic))
