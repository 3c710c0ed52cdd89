"""Find images that occur more than once, equal pixel for pixel."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable

from PIL import Image

from imgpipe.data.images import eight_bits, strips


def pixel_hash(image: Image.Image) -> str:
    """Return a hash that is equal for images of one size with equal pixels, as RGB of 8 bits, in whatever format."""
    digest = hashlib.blake2b(digest_size=16, person=b"%dx%d" % image.size)
    for strip in strips(image):
        digest.update(eight_bits(strip, 3).tobytes())
    return digest.hexdigest()


def equal_groups(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the places of each key that occurs more than once.

    >>> equal_groups("abcab")
    [[0, 3], [1, 4]]
    """
    places = defaultdict(list)
    for i, key in enumerate(keys):
        places[key].append(i)
    return [group for group in places.values() if len(group) > 1]
