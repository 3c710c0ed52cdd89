"""Logits for every picture of a split, each exactly once on any number of processes."""

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from imgpipe.batches import batches
from imgpipe.classifier import Classifier
from imgpipe.devices import World, autocast
from imgpipe.packed import Split
from imgpipe.transforms import centre_crop


@torch.inference_mode()
def predict_split(
    classifier: Classifier,
    split: Split,
    *,
    classes: int,
    size: int,
    batch_size: int,
    precision: str,
    threads: int,
    world: World,
) -> Tensor:
    """Logits of the centre crops, float32 (pictures, classes) on the CPU, in the order of the split, on every process.

    Whole batches of a fixed composition are dealt out to the processes. Each fills in the rows that it computed, and
    adding the others' zeros is exact, so the number of processes does not show in the result.
    """
    classifier.eval()
    dealt = np.split(np.arange(len(split)), range(batch_size, len(split), batch_size))[world.rank :: world.size]
    logits = torch.zeros(len(split), classes, device=world.device)
    for pictures, _, numbers in batches(split, dealt, lambda i: centre_crop(split.picture(i), size), threads=threads):
        with autocast(world.device, precision):
            logits[torch.from_numpy(numbers).to(world.device)] = classifier(pictures)
    if world.size > 1:
        dist.all_reduce(logits)
    return logits.cpu()
