"""Logits for every image of a split, each exactly once on any number of processes."""

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from imgpipe.common.progress import counting_where_long
from imgpipe.data.packed import Pixels, Split
from imgpipe.model.batches import batches
from imgpipe.model.classifier import Classifier
from imgpipe.model.crops import centre
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
        nothing_random = np.empty((place.stop - place.start, 0))
        return centre(split, order[place], nothing_random, size, fraction=crop_fraction)

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
