"""Equal images."""

from PIL import Image
from samples import encoded, noise

from imgpipe.data.images import decode
from imgpipe.prepare.duplicates import equal_groups, pixel_hash


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


def test_groups_are_of_what_occurs_more_than_once() -> None:
    assert equal_groups("abcab") == [[0, 3], [1, 4]]
