"""Decode image files, and bring images to the pixels that are packed."""

import io
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from imgpipe.common.errors import InputError

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by the number of channels."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF")
"""What is decoded, as the content says. Pillow's other formats may start programs (EPS) or need other files."""
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
"""Words that say that images are coded as HEIC has them."""
CONTAINERS = {b"mif1", b"msf1"}
"""Words that say that images are in there; another says how they are coded."""
MOST_PIXELS = 1 << 27
"""Pixels of the largest image. More is taken for a decompression bomb: a small file that would fill the memory."""
MOST_MEMORY = 1 << 30
"""Bytes that an image may take at the most, beside its file, from its decoding to its 8 bits."""
BYTES_PER_PIXEL = {"JPEG": 10, "MPO": 10, "PPM": 10, "WEBP": 16, "AVIF": 16, "HEIF": 16}
"""What that comes to by Pillow's format, as measured: the image and what its decoder holds beside it."""
OF_OTHERS = 8
"""The same of all other formats: the image, and one that is turned upright or converted."""
MOST_RATIO = 50
"""Times that an image may be as long as its short side. Longer ones are no pictures, and packing would enlarge them."""
MOST_PACKED = 1 << 26
"""Pixels of the largest packed image. With MOST_RATIO no side is longer than the 65,500 pixels that libjpeg writes."""
STRIP = 1 << 21
"""Pixels that are converted at a time."""
EIGHT_BITS = (np.arange(1 << 16) / 257).round().astype(np.uint8)
"""The level of 8 bits for each of 16."""

ITEM = re.compile(rb"infe([\2\3]).{3}", re.DOTALL)
"""Start of what a HEIC file says of an item of its: version and flags, then a number, two bytes and the item's type."""

warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata; what matters is an error
logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the same


def decode(content: bytes) -> Image.Image:
    """Return the image that a file holds, turned upright as its EXIF says; of an animated one the first frame.

    content: the file's bytes.

    Raises InputError where it can't be read, with a reason that begins with "it" or "its".
    """
    if not content:
        raise InputError("it is empty")
    with _reasons_said():
        formats: tuple[str, ...] = FORMATS
        if is_heic(content):
            _check_item_types(content)
            formats = _heif()
        return upright(Image.open(io.BytesIO(content), formats=formats))


def upright(image: Image.Image) -> Image.Image:
    """Return an opened image whole, turned upright as its EXIF says. Raises InputError as ``decode`` does."""
    with _reasons_said():
        _check_header(image)
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        turned = ImageOps.exif_transpose(image) if orientation in range(2, 9) else image
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode.startswith("I;16"):
            turned = _with_white_as_highest(turned, image)
        if turned.mode == "I":
            _check_levels(turned)
    return turned


def _check_header(image: Image.Image) -> None:
    """Raise InputError where what the header says is not read, before memory is taken for it."""
    width, height = image.size
    if not width or not height:
        raise InputError(f"it is {width} x {height} pixels")
    per_pixel = BYTES_PER_PIXEL.get(image.format or "", OF_OTHERS) + 2 * (image.mode == "CMYK")
    most = min(MOST_PIXELS, MOST_MEMORY // per_pixel)
    if width * height > most:
        raise InputError(f"its {width} x {height} pixels are more than the {most:,} that are read")
    if max(width, height) > MOST_RATIO * min(width, height):
        raise InputError(f"its {width} x {height} pixels are longer than {MOST_RATIO} times its short side")
    if image.mode == "F":
        raise InputError("its pixels are floating-point numbers, whose range is unknown; save it with 8 or 16 bits")
    if image.mode == "LAB":
        raise InputError("its colours are CIELAB, which Pillow does not convert; save it as RGB")


def _with_white_as_highest(image: Image.Image, tiff: TiffImagePlugin.TiffImageFile) -> Image.Image:
    """Return an image of 16 bits with 65,535 for white, which Pillow leaves as a TIFF has it: 0, or 12 bits' 4,095."""
    if tiff.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
        levels = np.asarray(image)
        image = Image.fromarray(levels << 4 | levels >> 8)
    if tiff.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        image = Image.fromarray(~np.asarray(image))
    return image


def _check_levels(image: Image.Image) -> None:
    """Raise InputError where an image of 32 bits has levels that 16 bits do not have: which one is white is unknown."""
    low, high = image.getextrema()
    if low < 0 or high > 65_535:  # type: ignore[operator]
        raise InputError(
            f"its levels go from {low} to {high}, and those from 0 to 65535 are read; save it with 16 bits"
        )


@contextmanager
def _reasons_said() -> Iterator[None]:
    """Raise InputError, with a reason that begins with "it" or "its", where Pillow can't read an image."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError("its content is no image, or its start is damaged") from None
    except MemoryError:
        raise InputError("memory does not suffice to read it") from None
    except Image.DecompressionBombError:
        raise InputError(f"it has more than the {MOST_PIXELS:,} pixels that are read") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        reason = " ".join([type(error).__name__, *str(error).split()])  # as data/rejected.csv has it, without a colon
        raise InputError(f"it is damaged or cut short: {reason}") from None


def is_heic(content: bytes) -> bool:
    """Return whether a file is HEIC, and not AVIF, which is the same container: the words at its start say so."""
    end = min(int.from_bytes(content[:4], "big"), 256)
    brands = {content[8:12], *(content[place : place + 4] for place in range(16, end, 4))}
    is_one = content[8:12] in HEIC_BRANDS or (content[8:12] in CONTAINERS and bool(brands & HEIC_BRANDS))
    return content[4:8] == b"ftyp" and is_one


def _check_item_types(content: bytes) -> None:
    """Raise InputError where an item's type in a HEIC file is no ASCII: pi-heif 1.4 then ends the process."""
    for item in ITEM.finditer(content):
        number = 2 if item[1] == b"\2" else 4
        start = item.end() + number + 2
        if not content[start : start + 4].isascii():
            raise InputError(f"it is damaged: at byte {item.start():,} is no type of an item")


def _heif() -> tuple[str]:
    """Return the formats of an image that is HEIC: pi-heif teaches Pillow to read it, turned upright and of 8 bits."""
    try:
        from pi_heif import register_heif_opener  # an extra
    except ImportError:
        raise InputError("it is HEIC, which needs the package pi-heif: pip install 'imgpipe[heic]'") from None
    register_heif_opener()
    return ("HEIF",)


def eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """Return the image as grey (1 channel) or RGB (3) with 8 bits.

    16-bit grey is scaled, where Pillow would clip; transparent pixels are laid on white.

    Raises InputError as ``decode`` does: some damage shows only here.
    """
    if image.mode == MODES[channels] and not image.has_transparency_data:
        return image
    with _reasons_said():
        parts = strips(image)
        first = _eight_bits(next(parts), channels)
        if first.size == image.size:
            return first
        whole = Image.new(MODES[channels], image.size)
        whole.paste(first)
        top = first.height
        for part in parts:
            whole.paste(_eight_bits(part, channels), (0, top))
            top += part.height
        return whole


def strips(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the image in strips from the top down, so that what is made of each takes little memory."""
    rows = max(1, STRIP // image.width)
    if image.height <= rows:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray(EIGHT_BITS[np.asarray(image)])
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def packed_size(size: tuple[int, int], short_side: int, *, enlarge: bool) -> tuple[int, int]:
    """Return the width and height that give an image a short side of so many pixels and keep its proportions.

    It is shorter where the image would else have more than MOST_PACKED pixels.

    size: its width and height.
    enlarge: whether an image whose short side is shorter grows; if not, it stays as it is.

    >>> packed_size((400, 533), 100, enlarge=False)
    (100, 133)
    >>> packed_size((40, 53), 100, enlarge=False)
    (40, 53)
    >>> packed_size((40, 2000), 2000, enlarge=True)
    (1159, 57926)
    """
    scale = short_side / min(size)
    if not enlarge:
        scale = min(scale, 1)
    scale = min(scale, math.sqrt(MOST_PACKED / math.prod(size)))
    return round(size[0] * scale), round(size[1] * scale)


def pixels(image: Image.Image, *, size: tuple[int, int], channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the image as uint8 (height, width, channels), resized with Pillow's antialiased bilinear filter.

    size: width and height of the result.
    """
    converted = eight_bits(image, channels)
    resized = converted if converted.size == size else converted.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(resized.height, resized.width, channels)
