"""Real images and archives, damaged at random a thousand times: every one is read or named, and nothing crashes."""

from pathlib import Path

import numpy as np
import pytest
from samples import encoded, photo, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.data.images import decode, eight_bits
from imgpipe.prepare.reading import read_archive

KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
IMAGES = [encoded(photo(i, (64, 48)), kind) for i, kind in enumerate(KINDS)]
IMAGES.append(encoded(photo(0, (64, 48)), "JPEG", progressive=True, quality=60))
IMAGES.append(encoded(photo(1, (64, 48)).convert("P"), "PNG"))
IMAGES.append(encoded(photo(1, (64, 48)), "TIFF", compression="tiff_lzw"))


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Bytes flipped, a piece cut out, the end cut off, two pieces swapped or one written over with noise."""
    data = bytearray(content)
    a, b = sorted(random.integers(0, len(data), 2).tolist())
    match random.integers(5):
        case 0:
            for place in random.integers(0, len(data), random.integers(1, 9)):
                data[place] ^= int(random.integers(1, 256))
        case 1:
            del data[a : min(b, a + 200)]
        case 2:
            del data[a:]
        case 3:
            half = (a + b) // 2
            data[a:b] = data[half:b] + data[a:half]
        case _:
            length = min(16, len(data) - a)
            data[a : a + length] = random.bytes(length)
    return bytes(data)


@pytest.mark.parametrize("seed", range(7))
def test_a_hundred_damaged_images_are_read_or_refused_with_a_reason(seed: int) -> None:
    random = np.random.default_rng(seed)
    refused = 0
    for i in range(100):
        content = damaged(IMAGES[i % len(IMAGES)], random)
        try:
            assert np.asarray(eight_bits(decode(content), 3)).dtype == np.uint8
        except InputError as error:
            assert str(error).startswith("it")
            refused += 1
    assert 20 < refused < 95


@pytest.mark.parametrize("kind", ["zip", "tar", "gz"])
def test_of_a_hundred_damaged_archives_every_image_is_read_or_named_or_the_archive_is(
    tmp_path: Path, kind: str
) -> None:
    files = {f"cat/{i}.{kind.lower()}": content for i, (kind, content) in enumerate(zip(KINDS, IMAGES, strict=False))}
    path = tmp_path / "cats"
    whole = (zip_of(path, files) if kind == "zip" else tar_of(path, files, "gz" if kind == "gz" else "")).read_bytes()
    random = np.random.default_rng(0)
    outcomes = {"read": 0, "named": 0, "archive": 0}
    for _ in range(100):
        path.write_bytes(damaged(whole, random))
        try:
            found, rejected = read_archive(path, tmp_path / "spool", pattern="auto", tables=None, processes=1)
        except InputError as error:
            assert str(error).startswith(str(path))
            outcomes["archive"] += 1
            continue
        assert len(found) + len(rejected) == len(files)
        assert all(file.reason for file in rejected)
        outcomes["named" if rejected else "read"] += 1
    assert sum(outcomes.values()) == 100
    assert outcomes["archive"] + outcomes["named"] > 30
