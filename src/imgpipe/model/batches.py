"""Batches of packed images, made ahead of their use by threads over the memory map."""

from collections.abc import Callable, Iterable, Iterator

import cv2
import torch
from torch import Tensor

from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.data.parallel import by_threads

Batch = tuple[Tensor, Tensor, slice]


def batches(
    split: Split,
    order: Integers,
    places: Iterable[slice],
    images: Callable[[slice], Pixels],
    *,
    threads: int,
    device: torch.device,
) -> Iterator[Batch]:
    """For each run of places: its images uint8 (n, size, size, channels), their labels int64 (n,), the run itself.

    order: image numbers. places: which of them are a batch, as slices of the order.
    images: makes the square images of a run; it runs in a thread.
    threads: how many batches are made at once; twice as many wait at most. Changes nothing in the batches.
    device: that the batches are made for. They come from memory that a GPU copies from while it computes.
    """
    pinned = device.type == "cuda"
    cv2.setNumThreads(1)  # the threads are ours

    def make(place: slice) -> Batch:
        made = torch.from_numpy(images(place)), torch.from_numpy(split.labels[order[place]])
        pixels, labels = (tensor.pin_memory() if pinned else tensor for tensor in made)
        return pixels, labels, place

    yield from by_threads(make, places, threads=threads)
