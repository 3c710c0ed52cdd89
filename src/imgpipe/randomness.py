"""Random numbers that are a function of where they are used, and so need no state to be kept or restored."""

from typing import Literal

import numpy as np

PURPOSES = ("order", "augmentation", "dropout")


def generator(purpose: Literal["order", "augmentation", "dropout"], seed: int, *place: int) -> np.random.Generator:
    """A generator of its own for each purpose, seed and place, such as an epoch (numpy's Philox and SeedSequence)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([PURPOSES.index(purpose), seed, *place])))
