"""Find images that occur more than once: equal pixel for pixel, or alike to the eye."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from imgpipe.data.images import eight_bits

Integers = np.ndarray[Any, np.dtype[np.int64]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]

BITS = 64
"""Bits of a perceptual hash."""


def pixel_hash(image: Image.Image) -> str:
    """Return a hash that is equal for images of one size with equal pixels, as RGB of 8 bits, in whatever format."""
    rgb = eight_bits(image, 3)
    return hashlib.blake2b(rgb.tobytes(), digest_size=16, person=b"%dx%d" % rgb.size).hexdigest()


def perceptual_hash(image: Image.Image) -> int:
    """Return 64 bits that change little when an image is resized, recompressed or retouched.

    The difference hash: whether each of 8 x 8 points is darker than its right neighbour, of the image shrunk to 9 x 8
    grey pixels. Source: N. Krawetz, Kind of Like That, hackerfactor.com, 2013.
    """
    grey = np.asarray(eight_bits(image, 1).resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(grey[:, :-1] < grey[:, 1:]).tobytes(), "big")


def equal_groups(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the places of each key that occurs more than once.

    >>> equal_groups("abcab")
    [[0, 3], [1, 4]]
    """
    places = defaultdict(list)
    for i, key in enumerate(keys):
        places[key].append(i)
    return [group for group in places.values() if len(group) > 1]


def near_pairs(hashes: Sequence[int], levels: Sequence[int], *, distance: int) -> list[tuple[int, int, int]]:
    """Return, for each image that has one, the nearest image of a higher level: (image, nearest, bits that differ).

    Where several are as near, the first is taken.

    hashes: perceptual hash of each image.
    levels: level of each image; those of one level are not compared.
    distance: bits in which two hashes may differ.

    The 64 bits are cut into distance + 1 bands. Two hashes that differ in at most so many bits are equal in one band at
    least, so only those are compared.
    """
    kinds = list(dict.fromkeys(zip(hashes, levels, strict=True)))  # equal hashes of one level are compared but once
    first = {kind: i for i, kind in reversed(list(enumerate(zip(hashes, levels, strict=True))))}
    bits = np.array([kind[0] for kind in kinds], dtype=np.uint64)
    level = np.array([kind[1] for kind in kinds], dtype=np.int64)
    position = np.array([first[kind] for kind in kinds], dtype=np.int64)
    nothing = np.iinfo(np.int64).max
    best = np.full(len(kinds), nothing)  # distance and position of the nearest, as one number that sorts
    for band in range(distance + 1):
        # bits far apart, as neighbours are often alike: in a plain background, all of them
        mask = np.uint64(sum(1 << bit for bit in range(band, BITS, distance + 1)))
        for a, b in _equal_pairs(bits & mask):
            differing = np.bitwise_count(bits[a] ^ bits[b]).astype(np.int64)
            near = (differing <= distance) & (level[a] != level[b])
            a, b, differing = a[near], b[near], differing[near]
            low, high = np.where(level[a] < level[b], a, b), np.where(level[a] < level[b], b, a)
            np.minimum.at(best, low, (differing << 40) | position[high])
    nearest = dict(zip(kinds, best.tolist(), strict=True))
    found = enumerate(nearest[kind] for kind in zip(hashes, levels, strict=True))
    return [(i, key & ((1 << 40) - 1), key >> 40) for i, key in found if key != nothing]


def _equal_pairs(keys: Hashes) -> Iterator[tuple[Integers, Integers]]:
    """Yield the places of all pairs of equal keys, many at a time: in sorted order neighbours, those two apart, ..."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.arange(len(order))
    for step in count(1):
        first = first[first + step < len(order)]
        first = first[ordered[first] == ordered[first + step]]
        if not len(first):
            return
        yield order[first], order[first + step]
