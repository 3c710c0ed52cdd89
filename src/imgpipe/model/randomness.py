"""Random numbers that are a function of where they are used, and so need no state to be kept or restored."""

from typing import Any, Literal

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

PURPOSES = ("order", "augmentation", "dropout", "mixing", "bootstrap")


def generator(
    purpose: Literal["order", "augmentation", "dropout", "mixing", "bootstrap"], seed: int, *place: int
) -> np.random.Generator:
    """A generator of its own for each purpose, seed and place, such as an epoch (numpy's Philox and SeedSequence)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([PURPOSES.index(purpose), seed, *place])))


def random_rows(first: int, count: int, width: int, *, seed: int, epoch: int) -> Floats:
    """Rows of numbers in [0, 1) for the augmentation of an epoch's images, float64 (count, width), from the first on.

    A row is a function of seed, epoch and the image's place in the epoch alone, so it depends neither on threads or
    processes nor on where a run was taken up. width: a multiple of 4, as many as a step of Philox's counter makes.
    """
    assert width % 4 == 0
    random = generator("augmentation", seed, epoch)
    random.bit_generator.advance(first * width // 4)  # type: ignore[attr-defined]
    return random.random((count, width))
