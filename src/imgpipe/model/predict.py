"""Logits for every image of a split, each exactly once on any number of processes."""

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from imgpipe.common.progress import counting_where_long
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.data.parallel import by_threads
from imgpipe.model.classifier import Classifier
from imgpipe.model.crops import centre_crops
from imgpipe.model.devices import World, autocast


@torch.inference_mode()
def predict_batch(
    classifier: Classifier, images: Tensor, *, device: torch.device, precision: str, flips: bool
) -> Tensor:
    """Logits, float32 (n, classes) on the device. images: uint8 (n, size, size, channels).

    classifier: ready for evaluation. flips: means over an image and its mirror image.
    """
    images = images.to(device, non_blocking=True)
    with autocast(device, precision):
        logits: Tensor = classifier(images)
        return (logits + classifier(images.flip(2))) / 2 if flips else logits


def predict_split(
    classifier: Classifier,
    split: Split,
    *,
    classes: int,
    size: int,
    crop_fraction: float,
    batch_size: int,
    precision: str,
    flips: bool,
    threads: int,
    description: str,
    world: World,
) -> Tensor:
    """Logits of the centre crops, float32 (images, classes) on the CPU, in the order of the split, on every process.

    Whole batches of a fixed composition are dealt out to the processes. Each fills in the rows that it computed, and
    adding the others' zeros is exact, so the number of processes does not show in the result.

    description: of the work, beside the bar that the first process shows of its batches where they take long.
    """
    classifier.eval()
    order = np.arange(len(split))
    places = [slice(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]

    def middles(place: slice) -> Pixels:
        return centre_crops(split, order[place], size, fraction=crop_fraction)

    my_places = places[world.rank :: world.size]
    mine = batches(split, order, my_places, middles, threads=threads, device=world.device)
    if world.rank == 0:
        mine = counting_where_long(description, mine, len(my_places))
    logits = torch.zeros(len(split), classes, device=world.device)
    times_seen = torch.zeros(len(split), dtype=torch.int32, device=world.device)
    for images, _, place in mine:
        logits[place] = predict_batch(classifier, images, device=world.device, precision=precision, flips=flips)
        times_seen[place] += 1
    if world.size > 1:
        dist.all_reduce(logits)
        dist.all_reduce(times_seen)
    assert (times_seen == 1).all(), "every image is predicted once"
    return logits.cpu()


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
