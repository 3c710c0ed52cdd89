"""Image files of every kind, to pixels or to a reason."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import chunk, encoded, noise, palette_beyond_its_end, photo, png

from imgpipe.common.errors import InputError
from imgpipe.data import images
from imgpipe.data.images import decode, eight_bits, pixels
from imgpipe.prepare.duplicates import pixel_hash
from imgpipe.prepare.near import thumbnail


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


def tiff(levels: np.ndarray[Any, Any], *, bits: int, white: int, signed: bool = False) -> bytes:
    """A grey TIFF of these rows of bytes: ``white`` is tag 262, 0 where 0 is white, else 1."""
    height, width = levels.shape[0], levels.nbytes * 8 // bits // levels.shape[0]
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, white), (273, 200), (277, 1), (278, height)]
    tags += [(279, levels.nbytes), (339, 2 if signed else 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in tags)
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries).ljust(200, b"\0") + levels.tobytes()


def gif_of(width: int, height: int) -> bytes:
    """A GIF of 43 bytes: one pixel, on a screen of this size."""
    screen, frame = struct.pack("<HH", width, height), struct.pack("<HHHH", 0, 0, 1, 1)
    start = b"GIF89a" + screen + b"\x80\0\0" + bytes(3) + b"\xff" * 3 + b"!\xf9\4\t\0\0\0\0"
    return start + b"," + frame + b"\0\2\2D\1\0;"


def test_levels_of_a_tiff_are_white_where_it_says_so() -> None:
    """Tag 262 says whether 0 is white or black; 12 bits end at 4,095, and two of their levels share three bytes."""
    deep = np.array([[0, 257 * 200, 65535]], np.uint16)
    twelve = np.array([[0xFF, 0xF0, 0x00, 0x80, 0x08, 0x00]], np.uint8)  # 4095, 0, 2056, 2048
    cases = [
        (tiff(deep, bits=16, white=1), [0, 200, 255]),
        (tiff(deep, bits=16, white=0), [255, 55, 0]),
        (tiff(deep.astype(np.uint8), bits=8, white=0), [255, 55, 0]),
        (tiff(twelve, bits=12, white=1), [255, 0, 128, 128]),
        (tiff(deep.astype(np.int32), bits=32, white=1, signed=True), [0, 200, 255]),
    ]
    for content, levels in cases:
        assert np.asarray(eight_bits(decode(content), 1)).tolist() == [levels]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16"])
@pytest.mark.parametrize("clear", [False, True])
def test_large_images_are_converted_strip_by_strip_to_the_same_pixels(
    mode: str, clear: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(3, (37, 29)).convert("L").convert("I").convert(mode) if mode[0] == "I" else noise(3, (37, 29))
    if mode in ("PA", "LA"):
        image = image.convert("RGBA")
        image.putalpha(noise(4, (37, 29)).convert("L"))
    image = image.convert(mode)
    if clear and mode in ("L", "P", "RGB"):
        image.info["transparency"] = {"L": 9, "P": bytes(range(256)), "RGB": image.getpixel((5, 5))}[mode]
    whole = [eight_bits(image, channels).tobytes() for channels in (1, 3)]
    digest = pixel_hash(image)
    monkeypatch.setattr(images, "STRIP", 100)
    assert [eight_bits(image, channels).tobytes() for channels in (1, 3)] == whole
    assert pixel_hash(image) == digest


SIDE = 3000
ZEROS = bytes(8 * SIDE * SIDE + SIDE)
TURNED = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
LARGE: dict[str, Callable[[], bytes]] = {
    "grey": lambda: png(SIDE, SIDE, rows=ZEROS),
    "16 bits": lambda: png(SIDE, SIDE, bits=16, rows=ZEROS),
    "grey and alpha, turned": lambda: png(SIDE, SIDE, colour=4, chunks=chunk(b"eXIf", TURNED), rows=ZEROS),
    "alpha of 16 bits": lambda: png(SIDE, SIDE, colour=6, bits=16, rows=ZEROS),
    "tRNS": lambda: png(SIDE, SIDE, colour=2, chunks=chunk(b"tRNS", bytes(6)), rows=ZEROS),
    "GIF": lambda: gif_of(SIDE, SIDE),
    "TIFF": lambda: tiff(np.zeros((SIDE, SIDE), np.uint16), bits=16, white=0),
    "CMYK": lambda: encoded(Image.new("CMYK", (SIDE, SIDE)), "TIFF", compression="tiff_lzw", strip_size=1 << 30),
    "BMP": lambda: encoded(Image.new("P", (SIDE, SIDE)), "BMP"),
    "JPEG": lambda: encoded(
        Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0, exif=b"Exif\0\0" + TURNED
    ),
    "WEBP": lambda: encoded(Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4)), "WEBP", lossless=True, method=0, quality=0),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_an_image_takes_no_more_memory_than_its_budget_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nine million pixels, in a process of its own; what it takes beside are strips and the library's own."""
    monkeypatch.setattr(images, "STRIP", 1 << 18)
    content = LARGE[name]()
    per_pixel = images.BYTES_PER_PIXEL.get(name, images.OF_OTHERS)
    before, after = os.pipe()
    child = os.fork()
    if not child:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
            start = peak_memory()
            image = decode(content)
            pixel_hash(image), thumbnail(image)
            os.write(after, str(peak_memory() - start).encode())
        finally:
            os._exit(0)
    os.close(after)
    taken = int(os.read(before, 99) or 1 << 60)
    os.close(before)
    os.waitpid(child, 0)
    assert taken <= per_pixel * SIDE * SIDE + (24 << 20)


def peak_memory() -> int:
    """The most bytes that this process has had in memory."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


JPEG = encoded(photo(), "JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>404</html>", "its content is no image, or its start is damaged"),
        (JPEG[: len(JPEG) // 2], "it is damaged or cut short: OSError image file is truncated"),
        (encoded(noise(0))[:-30], "it is damaged or cut short"),
        (png(15_000, 10_000), "its 15000 x 10000 pixels are more than the 134,217,728 that are read"),
        (png(60_000, 60_000), "it has more than the 134,217,728 pixels that are read"),
        (png(0, 5), "its content is no image, or its start is damaged"),
        (png(1, 700_000), "its 1 x 700000 pixels are longer than 50 times its short side"),
        (png(51, 1), "its 51 x 1 pixels are longer than 50 times its short side"),
        (gif_of(16_384, 8_193), "its 16384 x 8193 pixels are more than the 134,217,728 that are read"),
        (palette_beyond_its_end(), "it is damaged or cut short"),
        (tiff(np.array([[0, 65_536]], np.int32), bits=32, white=1, signed=True), "its levels go from 0 to 65536"),
        (tiff(np.array([[-1, 9]], np.int16), bits=16, white=1, signed=True), "its levels go from -1 to 9"),
        (encoded(Image.new("F", (2, 2)), "TIFF"), "its pixels are floating-point numbers"),
        (encoded(Image.new("LAB", (2, 2)), "TIFF"), "its colours are CIELAB"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "its content is no image"),
    ],
    ids=[
        "empty",
        "page",
        "half a JPEG",
        "most of a PNG",
        "large",
        "bomb",
        "no width",
        "thin",
        "flat",
        "GIF",
        "palette",
        "32 bits",
        "below 0",
        "float",
        "CIELAB",
        "program",
    ],
)
def test_what_can_t_be_read_gets_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(InputError) as refusal:
        pixels(decode(content), size=(2, 2), channels=3)
    assert str(refusal.value).startswith(reason)


def test_resizing_is_pillow_s_antialiased_bilinear() -> None:
    image = photo()
    expected = np.asarray(image.resize((40, 30), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels(decode(encoded(image)), size=(40, 30), channels=3), expected)
