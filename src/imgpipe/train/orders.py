"""Which images an epoch shows, and in which order: a function of the labels, the seed and the epoch alone.

To add an order: a function ``(labels, seed, epoch)`` and a line in ORDERS.
"""

import numpy as np

from imgpipe.data.packed import Integers
from imgpipe.model.randomness import generator


def shuffled(labels: Integers, *, seed: int, epoch: int) -> Integers:
    """Every image once, in the order of an epoch, int64 (images,): a function of its arguments alone."""
    return generator("order", seed, epoch).permutation(len(labels))


def balanced(labels: Integers, *, seed: int, epoch: int) -> Integers:
    """As many images as there are, but each class as often as every other, int64 (images,).

    A class too small repeats its images, one too large leaves some out: others in every epoch.
    """
    random = generator("order", seed, epoch)
    classes = np.unique(labels)
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[random.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen = []
    for label, quota in zip(classes, quotas, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [random.permutation(members) for _ in range(-(-quota // len(members)))]
        chosen.append(np.concatenate(rounds)[:quota])
    return random.permutation(np.concatenate(chosen))


ORDERS = {"shuffled": shuffled, "balanced": balanced}
