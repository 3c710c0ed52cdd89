"""Find images that are alike to the eye: one is the other resized, recompressed, brightened, cut a little or mirrored.

Each image is a thumbnail of 16 x 16 pixels. Two are near where the thumbnails correlate and so does their detail, which
tells two shirts apart that lie on one carpet. Where one has little detail it takes much more, since two digits on plain
paper correlate like a photo and a copy of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from imgpipe.data.images import eight_bits

Thumbnail = bytes
"""An image of 16 x 16 pixels of RGB, row by row."""
Levels = np.ndarray[Any, np.dtype[np.uint8]]
Numbers = np.ndarray[Any, np.dtype[np.float32]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

SIDE = 16
"""Of a thumbnail, in pixels."""
DETAIL = 0.92
"""The least correlation of two thumbnails' detail."""
EDGES = 110
"""The least effective number, of 2 x 16 x 15 = 480 pairs of neighbours, that differ where there is detail all over."""
FEWEST_EDGES = 16
"""Such a number below which nothing can be said."""
STRICTER = 6
"""How many times nearer to 1 the correlation must be where there are fewer edges than EDGES."""
FAINT = 2.0
"""Grey levels below which two neighbours do not differ."""
DIMENSIONS = 48
"""Of the projection in which images are compared first."""
SEARCHED = 8
"""Of these, in which images are searched for: more take longer to search, fewer leave more to compare."""
NEIGHBOURS = 32
"""The most images to which one is compared, the nearest. So many are alike only where some others link them anyway; of
a million, so many may be nearer in the searched dimensions than one that is alike (docs/scale.md)."""
MANY = 50_000
"""Images from which on the search is approximate. An exact one would take the longer for each, the more there are."""
SLACK = 0.5
"""Of the approximate search: it surely finds what is 1 + SLACK times nearer than the radius and the last neighbour."""
MEAN_COLOUR = np.tile(np.eye(3, dtype=np.float32) / SIDE**2, (SIDE * SIDE, 1))
"""By which a thumbnail's 768 levels are multiplied for the mean of each channel."""
AT_ONCE = 4096
"""Images or pairs of which the numbers are in memory at once."""


@dataclass(frozen=True)
class NearPair:
    """Two images that are alike to the eye."""

    one: int
    """Number of the image."""
    other: int
    """Number of the other, which is higher."""
    correlation: float
    """Of their thumbnails."""
    mirrored: bool
    """Whether the one is like the mirror image of the other."""


def thumbnail(image: Image.Image) -> Thumbnail:
    """Return an image shrunk to 16 x 16 pixels of RGB, whatever its proportions.

    One that is smaller says too little to be compared, and is black.
    """
    if min(image.size) < SIDE:
        return bytes(3 * SIDE * SIDE)
    return eight_bits(image, 3).resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def near_pairs(thumbnails: Sequence[Thumbnail], *, correlation: float) -> list[NearPair]:
    """Return the pairs of images that are alike, sorted.

    thumbnails: of each image, as ``thumbnail`` gives them.
    correlation: the least that two thumbnails must have, or one and the mirror image of the other.

    Of thumbnails as vectors of length 1, a correlation of r is a distance of sqrt(2 - 2 r). In a projection to a few
    dimensions no distance is longer, so a search there, by a k-d tree, misses none, but for what NEIGHBOURS and, of
    MANY images, SLACK leave out; what it finds is then compared.
    """
    pixels = np.frombuffer(b"".join(thumbnails), dtype=np.uint8).reshape(-1, SIDE, SIDE, 3)
    edges = np.concatenate([np.zeros(0, dtype=np.float32), *(_edges(part) for part in _parts(pixels))])
    found: dict[tuple[int, int], NearPair] = {}
    for least_edges, least in ((EDGES, correlation), (FEWEST_EDGES, 1 - (1 - correlation) / STRICTER)):
        numbers = np.flatnonzero(edges >= least_edges)
        for mirrored, pairs in zip((False, True), _candidates(pixels, numbers, least), strict=True):
            for pair in _confirmed(pixels, pairs, least, mirrored=mirrored):
                before = found.setdefault((pair.one, pair.other), pair)
                if before.correlation < pair.correlation:
                    found[pair.one, pair.other] = pair
    return [found[key] for key in sorted(found)]


def _confirmed(pixels: Levels, pairs: Integers, correlation: float, *, mirrored: bool) -> Iterator[NearPair]:
    """Yield those of the pairs (n, 2) that are alike.

    mirrored: whether the first of each is compared as its mirror image.
    """
    for part in _parts(pairs):
        one, other = pixels[part[:, 0]], pixels[part[:, 1]]
        whole, detail = _compared(one[:, :, ::-1] if mirrored else one, other)
        for k in np.flatnonzero((whole >= correlation) & (detail >= DETAIL)):
            yield NearPair(int(part[k, 0]), int(part[k, 1]), float(whole[k]), mirrored)


def _parts(rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Return the rows, so many at a time."""
    return [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]


def _edges(pixels: Levels) -> Numbers:
    """Return the effective number of neighbours that differ: that of equal differences which would spread as these do.

    Of differences d it is (sum d)^2 / (sum d^2). Source: L. Kish, Survey Sampling, 1965, of weights.
    """
    grey = pixels.astype(np.float32).mean(axis=3)
    steps = [np.abs(np.diff(grey, axis=axis)).reshape(len(grey), -1) for axis in (1, 2)]
    differences = np.concatenate(steps, axis=1)
    differences[differences < FAINT] = 0
    edges: Numbers = differences.sum(axis=1) ** 2 / np.maximum((differences**2).sum(axis=1), 1)
    return edges


def _unit(pixels: np.ndarray[Any, Any]) -> Numbers:
    """Return each thumbnail, less its mean colour, as a vector of length 1; zeros where it is of one colour."""
    levels = pixels.reshape(-1, 3 * SIDE * SIDE).astype(np.float32)
    levels -= np.tile(levels @ MEAN_COLOUR, SIDE * SIDE)
    levels /= np.maximum(np.sqrt(np.einsum("ij,ij->i", levels, levels)), 1e-6)[:, None]
    return levels


def _compared(one: Levels, other: Levels) -> tuple[Numbers, Numbers]:
    """Return, of pairs of thumbnails, the correlations of the whole and of what blurring takes away."""
    whole = np.einsum("ij,ij->i", _unit(one), _unit(other))
    sharp = [
        levels - gaussian_filter(levels, (0, 1, 1, 0), mode="nearest")
        for levels in (one.astype(np.float32), other.astype(np.float32))
    ]
    return whole, np.einsum("ij,ij->i", _unit(sharp[0]), _unit(sharp[1]))


def _candidates(pixels: Levels, numbers: Integers, correlation: float) -> tuple[Integers, Integers]:
    """Return the pairs of images that may correlate so much, and those of which one is mirrored, the lower first.

    numbers: of the images that are compared.
    """
    some = _unit(pixels[numbers[:: -(-len(numbers) // AT_ONCE) or 1]])
    axes = np.linalg.eigh(some.T @ some)[1][:, : -DIMENSIONS - 1 : -1]  # along which the images differ most, in order
    turned = axes.reshape(SIDE, SIDE, 3, -1)[:, ::-1].reshape(axes.shape)  # as if all images were mirrored
    points = np.zeros((len(numbers), DIMENSIONS), np.float32)
    for start, part in zip(range(0, len(numbers), AT_ONCE), _parts(numbers), strict=True):
        points[start : start + len(part)] = _unit(pixels[part]) @ axes
    radius = float(np.sqrt(2 - 2 * correlation)) + 1e-5  # for rounding
    tree = cKDTree(points[:, :SEARCHED])
    slack = SLACK if len(numbers) >= MANY else 0
    plain, mirrored = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for places in _parts(tree.indices):  # whose neighbours are in the same part of the memory
        for keys, here in ((plain, points[places]), (mirrored, _unit(pixels[numbers[places]]) @ turned)):
            searched = here[:, :SEARCHED]
            _, near = tree.query(searched, NEIGHBOURS + 1, eps=slack, distance_upper_bound=radius, workers=-1)
            row, column = np.nonzero(near < len(numbers))
            other = near[row, column]
            close = ((here[row] - points[other]) ** 2).sum(axis=1) <= radius**2
            one, other = numbers[places[row[close]]], numbers[other[close]]
            keys.append(np.minimum(one, other) * len(pixels) + np.maximum(one, other))
    return _as_pairs(plain, len(pixels)), _as_pairs(mirrored, len(pixels))


def _as_pairs(keys: Sequence[Integers], count: int) -> Integers:
    """Return the pairs (n, 2) of which the keys are the first times the count plus the second, each once."""
    pairs = np.stack(np.divmod(np.unique(np.concatenate(keys)), max(1, count)), axis=1)
    different: Integers = pairs[pairs[:, 0] != pairs[:, 1]]
    return different
