"""Equal and alike images, and what becomes of them."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from samples import encoded, noise, photo

from imgpipe.data.images import decode
from imgpipe.prepare.duplicates import equal_groups, near_pairs, perceptual_hash, pixel_hash


def test_equal_pixels_have_equal_hashes_in_whatever_format_and_mode() -> None:
    image = noise(0)
    assert len({pixel_hash(decode(encoded(image, kind))) for kind in ("PNG", "BMP", "TIFF", "PPM")}) == 1
    grey = image.convert("L")
    assert pixel_hash(grey) == pixel_hash(grey.convert("RGB"))


def test_one_level_or_another_shape_is_another_hash() -> None:
    image = noise(0, (6, 4))
    changed = image.copy()
    changed.putpixel((5, 3), tuple(level ^ 1 for level in image.getpixel((5, 3))))  # type: ignore[union-attr]
    reshaped = Image.frombytes("RGB", (4, 6), image.tobytes())
    assert len({pixel_hash(image), pixel_hash(changed), pixel_hash(reshaped)}) == 3


def test_the_perceptual_hash_by_hand() -> None:
    """Levels that rise to the right: every point is darker than its neighbour. And one that falls."""
    rising = Image.fromarray(np.tile(np.arange(0, 90, 10, dtype=np.uint8), (8, 1)))
    assert perceptual_hash(rising) == 2**64 - 1
    rising.putpixel((0, 0), 255)
    assert perceptual_hash(rising) == 2**63 - 1


def test_a_retouched_photo_is_near_and_another_is_far() -> None:
    image = photo(0)
    touched = [
        image.resize((80, 60)),
        decode(encoded(image, "JPEG", quality=40)),
        ImageEnhance.Brightness(image).enhance(1.1),
    ]
    for other in touched:
        assert (perceptual_hash(image) ^ perceptual_hash(other)).bit_count() <= 4
    assert (perceptual_hash(image) ^ perceptual_hash(photo(1))).bit_count() > 10


def test_groups_are_of_what_occurs_more_than_once() -> None:
    assert equal_groups("abcab") == [[0, 3], [1, 4]]


@pytest.mark.parametrize("distance", [0, 1, 2, 5, 8])
def test_near_pairs_are_those_that_comparing_all_with_all_finds(distance: int) -> None:
    random = np.random.default_rng(distance)
    seeds = random.integers(0, 2**64, 20, dtype=np.uint64)
    hashes = []
    for _ in range(300):  # each some bits away from one of 20
        bits = random.choice(64, random.integers(0, 7), replace=False)
        hashes.append(int(random.choice(seeds)) ^ sum(1 << int(bit) for bit in bits))
    levels = random.integers(0, 3, 300).tolist()
    best: dict[int, tuple[int, int]] = {}
    for i, j in combinations(range(300), 2):
        differing = (hashes[i] ^ hashes[j]).bit_count()
        if levels[i] != levels[j] and differing <= distance:
            low, high = (i, j) if levels[i] < levels[j] else (j, i)
            best[low] = min(best.get(low, (99, 0)), (differing, high))
    found = near_pairs(hashes, levels, distance=distance)
    assert {i: (differing, j) for i, j, differing in found} == best
    assert len(best) > 20
