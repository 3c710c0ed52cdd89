"""Decode image files, and bring images to the pixels that are packed."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

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

warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata; what matters is an error


def decode(content: bytes) -> Image.Image:
    """Return the image that a file holds, turned upright as its EXIF says; of an animated one the first frame.

    content: the file's bytes.

    Raises InputError where it can't be read, with a reason that begins with "it" or "its".
    """
    if not content:
        raise InputError("it is empty")
    with _reasons_said():
        return upright(Image.open(io.BytesIO(content), formats=_heif() if is_heic(content) else FORMATS))


def upright(image: Image.Image) -> Image.Image:
    """Return an opened image whole, turned upright as its EXIF says. Raises InputError as ``decode`` does."""
    with _reasons_said():
        if image.width * image.height > MOST_PIXELS:
            raise InputError(
                f"its {image.width} x {image.height} pixels are more than the {MOST_PIXELS:,} that are read"
            )
        image.load()
        turned = ImageOps.exif_transpose(image)
    if not turned.width or not turned.height:
        raise InputError(f"it is {turned.width} x {turned.height} pixels")
    if turned.mode == "F":
        raise InputError("its pixels are floating-point numbers, whose range is unknown; save it with 8 or 16 bits")
    if turned.mode == "LAB":
        raise InputError("its colours are CIELAB, which Pillow does not convert; save it as RGB")
    return turned


@contextmanager
def _reasons_said() -> Iterator[None]:
    """Raise InputError, with a reason that begins with "it" or "its", where Pillow can't read an image."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError("its content is no image, or its start is damaged") from None
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
    """
    if image.mode.startswith("I"):
        levels = (np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8)
        image = Image.fromarray(levels)
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def packed_size(size: tuple[int, int], short_side: int, *, enlarge: bool) -> tuple[int, int]:
    """Return the width and height that give an image a short side of so many pixels and keep its proportions.

    size: its width and height.
    enlarge: whether an image whose short side is shorter grows; if not, it stays as it is.

    >>> packed_size((400, 533), 100, enlarge=False)
    (100, 133)
    >>> packed_size((40, 53), 100, enlarge=False)
    (40, 53)
    """
    scale = short_side / min(size)
    return size if scale > 1 and not enlarge else (round(size[0] * scale), round(size[1] * scale))


def pixels(image: Image.Image, *, size: tuple[int, int], channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the image as uint8 (height, width, channels), resized with Pillow's antialiased bilinear filter.

    size: width and height of the result.
    """
    converted = eight_bits(image, channels)
    resized = converted if converted.size == size else converted.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(resized.height, resized.width, channels)
