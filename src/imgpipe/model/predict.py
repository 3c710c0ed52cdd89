"""Make batches of packed images, and predict every image of a split, each exactly once on any number of processes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from imgpipe.common.progress import counting_where_long
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.data.parallel import by_threads
from imgpipe.model.classifier import Classifier
from imgpipe.model.crops import fill_squares
from imgpipe.model.devices import World, autocast

Batch = tuple[Tensor, Tensor, slice]


def batches(
    split: Split,
    order: Integers,
    places: Iterable[slice],
    fill: Callable[[slice, Pixels], None],
    *,
    size: int,
    threads: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Make batches ahead of their use, by threads over the memory map.

    order: numbers of images of the split, int64 (n,).
    places: which places of the order each batch takes.
    fill: fills squares, uint8 (n, size, size, channels), with the images of a run of places; it runs in a thread.
    size: side of the squares in pixels.
    threads: how many batches are made at once; twice as many wait at most. It changes nothing in the batches.
    device: that the batches are for.

    Yields for each run of places: its images, uint8 (n, size, size, channels), their labels, int64 (n,), and the run.
    Images and labels are on the device.
    """
    pinned = device.type == "cuda"  # a GPU copies from such memory while it computes
    cv2.setNumThreads(1)  # the threads are ours

    def make(place: slice) -> Batch:
        shape = (place.stop - place.start, size, size, split.channels)
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        fill(place, images.numpy())
        labels = torch.from_numpy(split.labels[order[place]])
        return images, labels.pin_memory() if pinned else labels, place

    made = by_threads(make, places, threads=threads)
    yield from copied_ahead(made, device) if pinned else made


def copied_ahead(made: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches from pinned memory to a GPU, each while the one before it is computed with.

    That memory is used again only when the copy is done: torch notes on which stream it was copied.
    """
    stream = torch.cuda.Stream(device)
    before = None
    for images, labels, place in made:
        with torch.cuda.stream(stream):
            batch = images.to(device, non_blocking=True), labels.to(device, non_blocking=True), place
        copied = stream.record_event()
        if before:
            yield _awaited(*before)
        before = batch, copied
    if before:
        yield _awaited(*before)


def _awaited(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Return the batch, to be used by what this process computes next on the GPU: that waits for the copy."""
    current = torch.cuda.current_stream(batch[0].device)
    current.wait_event(copied)
    for tensor in batch[:2]:
        tensor.record_stream(current)  # so that its memory is not copied to before that is done
    return batch


@torch.inference_mode()
def predict_batch(classifier: Classifier, images: Tensor) -> Tensor:
    """Compute the logits of a batch as the classifier's description says: its precision, and with flips or without.

    classifier: ready for evaluation.
    images: uint8 (n, size, size, channels), on any device.

    Returns float32 (n, classes) on the classifier's device.
    """
    description, device = classifier.description, classifier.mean.device
    images = images.to(device, non_blocking=True)
    with autocast(device, description.precision):
        logits: Tensor = classifier(images)
        return (logits + classifier(images.flip(2))) / 2 if description.flips else logits


def predict_split(
    classifier: Classifier, split: Split, world: World, *, batch_size: int, threads: int, says: str
) -> Tensor:
    """Compute the logits of every image of a split, as evaluation sees it.

    classifier: on the device of the world; it is put into evaluation mode.
    batch_size: images that go through the network at once. The last batch may be smaller.
    threads: see ``batches``.
    says: what stands beside the bar that the first process shows where the batches take long.

    Whole batches of a fixed composition are dealt out to the processes. Each fills in the rows that it computed, and
    adding the others' zeros is exact, so the number of processes does not show in the result.

    Returns float32 (images, classes) on the CPU, in the order of the split, on every process.
    """
    description = classifier.eval().description
    order = np.arange(len(split))
    places = [slice(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]

    def fill(place: slice, squares: Pixels) -> None:
        fill_squares(split, order[place], squares, fit=description.fit, fraction=description.crop_fraction)

    my_places = places[world.rank :: world.size]
    mine = batches(split, order, my_places, fill, size=description.size, threads=threads, device=world.device)
    if world.rank == 0:
        mine = counting_where_long(says, mine, len(my_places))
    logits = torch.zeros(len(split), len(description.classes), device=world.device)
    times_seen = torch.zeros(len(split), dtype=torch.int32, device=world.device)
    for images, _, place in mine:
        logits[place] = predict_batch(classifier, images)
        times_seen[place] += 1
    if world.size > 1:
        dist.all_reduce(logits)
        dist.all_reduce(times_seen)
    assert (times_seen == 1).all(), "every image is predicted once"
    return logits.cpu()


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the probabilities of the classes, (images, classes), computed in float64.

    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
