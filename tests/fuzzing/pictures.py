"""Odd pictures of every format that is read; they are decoded, brought to 8 bits, looked at and packed."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzzing import fields
from fuzzing.fields import Good, Table, table_of
from fuzzing.odd_pictures import bombs, odd_gifs, odd_pngs, odd_ppms, odd_tiffs
from fuzzing.picture_parts import EXIF, good_bmp, good_container, good_gif, good_jpeg, good_png, good_tiff, good_webp
from fuzzing.watched import Kind
from PIL import Image
from samples import encoded, form, noise, photo

from imgpipe.data.images import decode, eight_bits
from imgpipe.pack.pack import pack_decoded
from imgpipe.prepare.duplicates import pixel_hash
from imgpipe.prepare.near import thumbnail

FORMS = (
    form(image_size=32, channels=3),
    form(image_size=8, channels=1, enlarge=False),
    form(image_size=40, channels=3, encoding="jpeg"),
)
SIZE = (24, 18)


def _good() -> dict[str, Good]:
    colours, real = noise(0, SIZE), photo(0, (64, 48))
    grey16 = Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE[1], SIZE[0]) * 99)
    clear = colours.convert("RGBA")
    clear.putalpha(100)
    several: dict[str, Any] = {"save_all": True, "append_images": [noise(1, SIZE), noise(2, SIZE)]}
    good = {
        "PNG": good_png(encoded(colours)), "PNG of a palette": good_png(encoded(colours.convert("P"), transparency=3)),
        "PNG of 16 bits": good_png(encoded(grey16)), "PNG with EXIF": good_png(encoded(clear, exif=EXIF)),
        "APNG": good_png(encoded(colours, "PNG", **several)), "PNG of 1 bit": good_png(encoded(colours.convert("1"))),
        "JPEG": good_jpeg(encoded(colours, "JPEG", exif=EXIF)),
        "progressive JPEG": good_jpeg(encoded(real, "JPEG", progressive=True, quality=60)),
        "grey JPEG": good_jpeg(encoded(colours.convert("L"), "JPEG")),
        "CMYK JPEG": good_jpeg(encoded(colours.convert("CMYK"), "JPEG")), "TIFF": good_tiff(encoded(colours, "TIFF")),
        "TIFF by LZW": good_tiff(encoded(real, "TIFF", compression="tiff_lzw")),
        "TIFF of 16 bits": good_tiff(encoded(grey16, "TIFF")),
        "TIFF by JPEG": good_tiff(encoded(real, "TIFF", compression="jpeg")),
        "TIFF by deflate": good_tiff(encoded(clear, "TIFF", compression="tiff_adobe_deflate")),
        "TIFF of 1 bit": good_tiff(encoded(colours.convert("1"), "TIFF", compression="group4")),
        "BMP": good_bmp(encoded(colours, "BMP")), "BMP of a palette": good_bmp(encoded(colours.convert("P"), "BMP")),
        "GIF": good_gif(encoded(colours.convert("P"), "GIF")),
        "animated GIF": good_gif(encoded(colours, "GIF", **several)),
        "WebP": good_webp(encoded(colours, "WEBP", exif=EXIF)),
        "lossless WebP": good_webp(encoded(clear, "WEBP", lossless=True)),
        "animated WebP": good_webp(encoded(colours, "WEBP", **several)),
        "AVIF": good_container(encoded(real, "AVIF", exif=EXIF)), "clear AVIF": good_container(encoded(clear, "AVIF")),
    }  # fmt: skip
    try:
        import pi_heif  # noqa: F401, what reads them
        from pillow_heif import from_pillow
    except ImportError:
        return good  # an extra
    for name, image in (("HEIC", real), ("clear HEIC", clear)):
        buffer = io.BytesIO()
        from_pillow(image).save(buffer, exif=EXIF.tobytes())
        good[name] = good_container(buffer.getvalue())
    return good


GOOD = _good()
ODD: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "PNG": odd_pngs,
    "TIFF": odd_tiffs,
    "GIF": odd_gifs,
    "PPM": odd_ppms,
}


def table() -> Table:
    cases: Table = {}
    for name, good in GOOD.items():
        cases |= table_of(name, good)
    for name, odd in ODD.items():
        cases |= {f"{name}: {shown}": partial(bytes, content) for shown, content in odd()}
    cases |= {f"bomb: {shown}": partial(bytes, content) for shown, content in bombs()}
    return cases


def random(random: Random) -> bytes:
    return fields.randomly_changed(GOOD[random.choice(list(GOOD))], random)


def take(content: bytes, folder: Path) -> None:
    """A picture is read and packed in every form, or refused with a reason that says what it is."""
    try:
        decoded = decode(content)
        assert eight_bits(decoded, 1).mode == "L"
        assert len(pixel_hash(decoded)) == 32
        assert len(thumbnail(decoded)) == 16 * 16 * 3
        for one in FORMS:
            height, width, packed = pack_decoded(decoded, one)
            assert one.encoding == "jpeg" or len(packed) == height * width * one.channels > 0
    except ValueError as error:
        assert type(error).__name__ != "InputError" or str(error).startswith("it"), str(error)
        raise
    assert not list(folder.iterdir())


KIND = Kind(table, random, take, seconds=30)
