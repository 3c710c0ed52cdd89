"""Batches of packed pictures, made ahead of their use by threads over the memory map."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from imgpipe.packed import Integers, Pixels, Split
from imgpipe.randomness import generator

Batch = tuple[Tensor, Tensor, Integers]


def batches(
    split: Split, chosen: Iterable[Integers], picture: Callable[[int], Pixels], *, threads: int
) -> Iterator[Batch]:
    """For each array of picture numbers: pictures uint8 (n, size, size, channels), labels int64 (n,), the numbers.

    chosen: the numbers of the pictures of each batch.
    picture: makes the square picture of a number; it runs in a thread.
    threads: how many batches are made at once; twice as many wait at most. Changes nothing in the batches.
    """

    def make(numbers: Integers) -> Batch:
        pictures = np.stack([picture(int(i)) for i in numbers])
        return torch.from_numpy(pictures), torch.from_numpy(split.labels[numbers]), numbers

    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for numbers in chosen:
            waiting.append(pool.submit(make, numbers))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def shuffled(count: int, *, seed: int, epoch: int) -> Integers:
    """All numbers below ``count`` in the order of an epoch, int64 (count,): a function of its arguments alone."""
    return generator("order", seed, epoch).permutation(count)
