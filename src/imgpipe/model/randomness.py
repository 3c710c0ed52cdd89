"""Random numbers that are a function of where they are used, and so need no state to be kept or restored."""

from typing import Any, Literal, get_args

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

Purpose = Literal["order", "augmentation", "dropout", "mixing", "bootstrap"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def generator(purpose: Purpose, seed: int, *place: int) -> np.random.Generator:
    """Make the generator of one purpose, seed and place, independent of all others (numpy's Philox and SeedSequence).

    place: numbers that say where it is used, such as the epoch.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([PURPOSES.index(purpose), seed, *place])))


def random_rows(first: int, count: int, width: int, *, seed: int, epoch: int) -> Floats:
    """Draw a row of numbers in [0, 1) for the augmentation of each of some images of an epoch.

    A row is a function of the seed, the epoch and the image's place in the epoch alone. So it depends neither on
    threads or processes nor on where a training was resumed.

    first: place of the first of the images in the epoch, from 0.
    count: number of images.
    width: numbers in a row, a multiple of 4: Philox makes four at a step of its counter.

    Returns the rows, float64 (count, width).
    """
    assert width % 4 == 0
    random = generator("augmentation", seed, epoch)
    random.bit_generator.advance(first * width // 4)  # type: ignore[attr-defined]
    return random.random((count, width))
