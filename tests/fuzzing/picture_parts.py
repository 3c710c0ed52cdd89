"""Where the numbers and the pieces of a good picture are: PNG, JPEG, TIFF, BMP, GIF, WebP, AVIF and HEIC."""

import struct
import zlib
from collections.abc import Iterator

from fuzzing.fields import Field, Good, numbers_at
from PIL import Image

EXIF = Image.Exif()
EXIF[0x0112] = 6  # stands on its side


# PNG

HEAD = {"width": ">I", "height": ">I", "bits": "B", "colours": "B", "packing": "B", "filters": "B", "interlaced": "B"}


def chunks(content: bytes) -> Iterator[tuple[bytes, slice]]:
    """The type and place of each whole chunk."""
    at = 8
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if end > len(content):
            break
        yield content[at + 4 : at + 8], slice(at, end)
        at = end


def png_mended(content: bytes) -> bytes:
    changed = bytearray(content)
    for _, at in chunks(content):
        struct.pack_into(">I", changed, at.stop - 4, zlib.crc32(changed[at.start + 4 : at.stop - 4]))
    return bytes(changed)


def good_png(content: bytes) -> Good:
    pieces = {f"{kind.decode()} {number}": at for number, (kind, at) in enumerate(chunks(content))}
    numbers = [*numbers_at("", 16, HEAD)]
    for name, at in pieces.items():
        numbers += [Field(f"{name}'s length", at.start, ">I"), Field(f"{name}'s first byte", at.start + 8, "B")]
    return Good(content, [one for one in numbers if one.at < len(content) - 4], pieces, png_mended)


# JPEG

FRAME = {"_mark": ">H", "length": ">H", "bits": "B", "height": ">H", "width": ">H", "components": "B"}


def good_jpeg(content: bytes) -> Good:
    pieces, numbers, at = {}, [], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        mark, end = content[at + 1], at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        name = f"{mark:02X} at {at}"
        pieces[name] = slice(at, end)
        numbers.append(Field(f"{name}: mark", at + 1, "B"))
        numbers.append(Field(f"{name}: length", at + 2, ">H"))
        if mark in (0xC0, 0xC2):
            numbers += numbers_at(f"{name}: ", at, FRAME)
            numbers += [Field(f"{name}: byte {i}", at + i, "B") for i in range(10, min(19, end - at))]
        else:
            numbers += [Field(f"{name}: byte {i}", at + i, "B") for i in range(4, min(12, end - at))]
        at = end
        if mark == 0xDA:
            break
    pieces["the pixels"] = slice(at, len(content))
    return Good(content, numbers, pieces)


# TIFF

ENTRY = {"tag": "<H", "type": "<H", "count": "<I", "value": "<I"}
TAGS = {
    "width": 256, "height": 257, "bits": 258, "packing": 259, "photometric": 262, "fill order": 266, "offsets": 273,
    "orientation": 274, "samples": 277, "rows a strip": 278, "lengths": 279, "planes": 284, "predictor": 317,
    "palette": 320, "tile width": 322, "tile height": 323, "tiles": 324, "tile lengths": 325, "extra samples": 338,
    "format": 339, "tables": 347, "subsampling": 530, "EXIF": 34665, "GPS": 34853, "ICC": 34675,
}  # fmt: skip


def good_tiff(content: bytes) -> Good:
    """Of its first directory each entry is a piece; little end first."""
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    names = {number: name for name, number in TAGS.items()}
    pieces, numbers = {}, [Field("directory's offset", 4, "<I"), Field("entries", directory, "<H")]
    for i in range(count):
        at = directory + 2 + 12 * i
        (tag,) = struct.unpack_from("<H", content, at)
        name = names.get(tag, str(tag))
        pieces[name] = slice(at, at + 12)
        numbers += numbers_at(f"{name}'s ", at, ENTRY)
    numbers.append(Field("next directory", directory + 2 + 12 * count, "<I"))
    return Good(content, numbers, pieces)


# BMP, GIF, PPM

BITMAP = {
    "_signature": "2s", "file size": "<I", "_reserved": "<I", "offset": "<I", "header size": "<I", "width": "<I",
    "height": "<I", "planes": "<H", "bits": "<H", "packing": "<I", "size": "<I", "x density": "<I", "y density": "<I",
    "colours": "<I", "important": "<I",
}  # fmt: skip
SCREEN = {"_signature": "6s", "width": "<H", "height": "<H", "flags": "B", "background": "B", "aspect": "B"}
PICTURE = {
    "mark": "B",
    "left": "<H",
    "top": "<H",
    "width": "<H",
    "height": "<H",
    "flags": "B",
    "code size": "B",
    "block": "B",
}


def good_bmp(content: bytes) -> Good:
    pieces = {"head": slice(0, 14), "header": slice(14, 54), "pixels": slice(54, len(content))}
    return Good(content, [*numbers_at("", 0, BITMAP)], pieces)


def good_gif(content: bytes) -> Good:
    numbers, pieces, at = [*numbers_at("screen ", 0, SCREEN)], {"screen": slice(0, 13)}, 13
    at += 3 << (content[10] & 7) + 1 if content[10] & 128 else 0
    pieces["palette"] = slice(13, at)
    while at < len(content) and content[at] in b"!,":
        start = at
        if content[at] == 0x2C:
            numbers += numbers_at(f"picture at {at}: ", at, PICTURE)
            at += 10 + (3 << (content[at + 9] & 7) + 1 if content[at + 9] & 128 else 0) + 1
        else:
            numbers += [Field(f"extension at {at}: byte {i}", at + i, "B") for i in range(1, 8)]
            at += 2
        while content[at]:
            at += content[at] + 1
        at += 1
        pieces[f"block at {start}"] = slice(start, at)
    return Good(content, numbers, pieces)


# WebP, and AVIF and HEIC

BRANCHES = {
    b"meta": 12,
    b"iprp": 8,
    b"ipco": 8,
    b"moov": 8,
    b"trak": 8,
    b"mdia": 8,
    b"iinf": 14,
    b"iref": 12,
    b"dinf": 8,
    b"grpl": 8,
}
"""Boxes with boxes within, and where these begin."""


def good_webp(content: bytes) -> Good:
    numbers, pieces, at = [Field("size", 4, "<I")], {}, 12
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, at + 4)
        name, end = f"{content[at : at + 4].decode()} at {at}", min(at + 8 + length + length % 2, len(content))
        pieces[name] = slice(at, end)
        numbers.append(Field(f"{name}: length", at + 4, "<I"))
        numbers += [Field(f"{name}: byte {i}", at + i, "B") for i in range(8, min(24, end - at))]
        at = end
    return Good(content, numbers, pieces)


def boxes(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, slice]]:
    """The type and place of every box, those within others too."""
    while at + 8 <= end:
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        stop = at + length if 8 <= length <= end - at else end
        yield kind, slice(at, stop)
        if kind in BRANCHES:
            yield from boxes(content, at + BRANCHES[kind], stop)
        at = stop


def good_container(content: bytes) -> Good:
    numbers, pieces = [], {}
    for kind, at in boxes(content, 0, len(content)):
        name = f"{kind.decode('latin-1')} at {at.start}"
        pieces[name] = at
        numbers.append(Field(f"{name}: size", at.start, ">I"))
        numbers += [
            Field(f"{name}: byte {i - at.start}", i, "B") for i in range(at.start + 8, min(at.stop, at.start + 24))
        ]
        if kind == b"ispe":
            numbers += [Field(f"{name}: width", at.start + 12, ">I"), Field(f"{name}: height", at.start + 16, ">I")]
    return Good(content, numbers, pieces)
