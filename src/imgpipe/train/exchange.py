"""Sum tensors over the processes in the fixed tree of ``reduction.py``, beside what computes."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.distributed as dist
from torch import Tensor
from torch.futures import Future
from torch.nn.functional import pad

from imgpipe.model.devices import PATIENCE, World

ALIGNMENT = 128
"""Bytes to a multiple of which the slice of each process is padded: a line of a GPU's cache."""


def tree_sum(terms: Tensor) -> Tensor:
    """Sum over the first axis, whose length is a power of two, in the order of the tree."""
    while len(terms) > 1:
        terms = terms[0::2] + terms[1::2]
    return terms[0]


class Exchange:
    """Sums tensors over the processes of the world, on a GPU on a stream of its own and on a CPU in a thread.

    Every process makes one at the same time, and then asks for the same sums in the same order.
    """

    def __init__(self, world: World) -> None:
        """Join the processes. world: of more than one."""
        self._device = world.device
        self._groups = _nested_groups(world)
        self._padding = world.size * ALIGNMENT
        self._stream = torch.cuda.Stream(world.device) if world.device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)  # one, so that every process sums in the same order
        self.failure: Exception | None = None
        """The error in work that a future can't carry: DistributedDataParallel, which waits for it, wants a tensor."""

    def beside(self, work: Callable[[], Tensor]) -> Future[Tensor]:
        """Do work, which may call ``sum_in_place``, while what called this goes on.

        What the work reads must stay as it is, and be kept, until the future was waited for.

        Returns the future of what the work returns. To wait for it has a GPU wait, and not Python.
        """
        if self._stream is None:
            future: Future[Tensor] = Future()
            self._thread.submit(self._fulfil, future, work)
            return future
        future = Future(devices=[self._device])
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            self._fulfil(future, work)
        return future

    def sum_in_place(self, flat: Tensor) -> Tensor:
        """Replace a tensor of one dimension with its sum over the processes, and return it.

        Each process sums a slice, so that as many bytes are moved as in an ordinary all-reduce: first within its
        machine and then, what is left to it, with those of the same number on the other machines. The processes of a
        machine are a whole subtree, so the order of the sum is that of the tree.
        """
        unit = self._padding // flat.element_size()
        padded = pad(flat, (0, -len(flat) % unit))  # a copy in any case
        _sum_nested(padded, self._groups)
        return flat.copy_(padded[: len(flat)])

    def _fulfil(self, future: Future[Tensor], work: Callable[[], Tensor]) -> None:
        try:
            future.set_result(work())
        except Exception as error:
            self.failure = error
            future.set_exception(error)  # type: ignore[arg-type]  # what its annotation says is wrong


def _sum_nested(flat: Tensor, groups: list[tuple[dist.ProcessGroup, int]]) -> None:
    """Replace the tensor with its sum over the nested groups; their sizes divide its length."""
    if not groups:
        return
    (group, size), *outer = groups
    terms = torch.empty_like(flat)
    dist.all_to_all_single(terms, flat, group=group)
    mine = tree_sum(terms.view(size, -1))
    _sum_nested(mine, outer)
    dist.all_gather_into_tensor(flat, mine, group=group)


def _nested_groups(world: World) -> list[tuple[dist.ProcessGroup, int]]:
    """Return this process's groups and their sizes: its machine's processes, and their like on the other machines.

    It is one group of all where the machines have one process each, or not equally many. torchrun says how many a
    machine has; without it there is one machine.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    on_each = torch.empty(world.size, dtype=torch.int64, device=world.device)
    dist.all_gather_into_tensor(on_each, torch.tensor([here], device=world.device))
    if here in (1, world.size) or (on_each != here).any():
        assert dist.group.WORLD
        return [(dist.group.WORLD, world.size)]
    numbers = torch.arange(world.size).view(-1, here)
    groups = []
    for members in (numbers, numbers.T):
        mine, _ = dist.new_subgroups_by_enumeration(members.tolist(), timeout=PATIENCE)
        assert isinstance(mine, dist.ProcessGroup), "each process is in one of them"
        groups.append((mine, members.shape[1]))
    return groups
