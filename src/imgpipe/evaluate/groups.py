"""Number the groups of images, such as the photos of one patient: what is independent of all others."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def number_groups(files: Sequence[str], named: Mapping[str, str]) -> NDArray[np.int64] | None:
    """Return the number of each image's group, from 0, (images,); None where no image has one.

    files: of the images.
    named: the group of each file, empty where it has none. Such an image is a group of its own.
    """
    if not any(named[file] for file in files):
        return None
    keys = [(named[file], "" if named[file] else file) for file in files]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])
