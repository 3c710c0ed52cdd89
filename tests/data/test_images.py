"""Image files of every kind, to pixels or to a reason."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from samples import encoded, noise, photo

from imgpipe.common.errors import InputError
from imgpipe.data.images import decode, eight_bits, pixels


def gradient(mode: str) -> Image.Image:
    levels = np.linspace(0, 255, 48, dtype=np.uint8).reshape(6, 8)
    return Image.fromarray(levels).convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("1", "PNG"), ("LA", "PNG"), ("P", "GIF"),
     ("RGB", "BMP"), ("RGB", "TIFF"), ("RGB", "WEBP"), ("RGB", "AVIF"), ("RGB", "PPM"), ("YCbCr", "JPEG")],
)  # fmt: skip
def test_images_of_any_mode_and_format_are_read(mode: str, kind: str) -> None:
    image = gradient(mode)
    read = pixels(decode(encoded(image, kind)), size=image.size, channels=3)
    assert read.shape == (6, 8, 3)
    assert np.abs(read.astype(int) - np.asarray(image.convert("RGB")).astype(int)).max() <= 10


def test_sixteen_bits_are_scaled_to_eight_and_transparent_pixels_are_white() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 200, 65535]], dtype=np.uint16))
    for channels in (1, 3):
        read = pixels(decode(encoded(deep)), size=(3, 1), channels=channels)
        assert read[0, :, 0].tolist() == [0, 200, 255]
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert pixels(decode(encoded(clear)), size=(2, 2), channels=3).min() == 255


def test_an_image_on_its_side_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    upright = decode(encoded(gradient("L"), "JPEG", quality=95, exif=exif))
    assert upright.size == (6, 8)
    assert np.asarray(upright)[0, -1] < 20  # the dark corner was top left


def test_of_an_animated_image_the_first_frame_is_read() -> None:
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(eight_bits(decode(moving), 1)).max() == 10


def png_that_says(width: int, height: int) -> bytes:
    """A PNG whose header promises so many grey pixels, with hardly any behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


JPEG = encoded(photo(), "JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>404</html>", "its content is no image, or its start is damaged"),
        (JPEG[: len(JPEG) // 2], "it is damaged or cut short: OSError image file is truncated"),
        (encoded(noise(0))[:-30], "it is damaged or cut short"),
        (png_that_says(15_000, 10_000), "its 15000 x 10000 pixels are more than the 134,217,728 that are read"),
        (png_that_says(60_000, 60_000), "it has more than the 134,217,728 pixels that are read"),
        (png_that_says(0, 5), "its content is no image, or its start is damaged"),
        (encoded(Image.new("F", (2, 2)), "TIFF"), "its pixels are floating-point numbers"),
        (encoded(Image.new("LAB", (2, 2)), "TIFF"), "its colours are CIELAB"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "its content is no image"),
    ],
    ids=["empty", "page", "half a JPEG", "most of a PNG", "large", "bomb", "no width", "float", "CIELAB", "program"],
)
def test_what_can_t_be_read_gets_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(InputError) as refusal:
        decode(content)
    assert str(refusal.value).startswith(reason)


def test_resizing_is_pillow_s_antialiased_bilinear() -> None:
    image = photo()
    expected = np.asarray(image.resize((40, 30), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels(decode(encoded(image)), size=(40, 30), channels=3), expected)
