"""Pictures of any contents, written byte by byte: PNG, TIFF, GIF, PPM and BMP, with what no encoder would write."""

import itertools
import struct
import zlib
from collections.abc import Iterator

from fuzzing.picture_parts import EXIF, TAGS


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colours: int, data: bytes, *between: bytes, interlaced: int = 0) -> bytes:
    """A PNG of any pixels, unpacked, with any chunks before them."""
    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, colours, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(between) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def odd_pngs() -> Iterator[tuple[str, bytes]]:
    for bits, colours in itertools.product((0, 1, 2, 4, 8, 16, 32), range(8)):
        for entries in (0, 1, 2, 255, 256, 257, 1000):
            palette = chunk(b"PLTE", bytes(range(3)) * entries)
            for clear in (None, 0, 1, 2, 6, 255, 256, 257, 1000):
                between = [palette] + ([chunk(b"tRNS", bytes(clear))] if clear is not None else [])
                if colours in (2, 3) or entries in (0, 256):
                    said = f"{bits} bits, colours {colours}, {entries} in the palette, {clear} clear"
                    yield said, png(8, 8, bits, colours, b"\0\xff\xfe" * 400, *between)
    extra = {
        "text": chunk(b"tEXt", b"key\0" + b"x" * 100_000), "no key": chunk(b"tEXt", b""),
        "a bomb": text_bomb(b"zTXt", b"key\0\0"), "a bomb in iTXt": text_bomb(b"iTXt", b"key\0\1\0\0\0"),
        "ICC bomb": text_bomb(b"iCCP", b"icc\0\0"), "odd ICC": chunk(b"iCCP", b"icc\0\0xx"),
        "an unknown one": chunk(b"ABCD", b"x"), "an unknown name": chunk(b"\0\xff\n\x1b", b"x"),
        "gamma": chunk(b"gAMA", bytes(4)), "short gamma": chunk(b"gAMA", b""),
        "EXIF": chunk(b"eXIf", EXIF.tobytes()[6:]), "odd EXIF": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        "short EXIF": chunk(b"eXIf", b"I"), "frames": chunk(b"acTL", struct.pack(">2I", 1 << 31, 0)),
        "no frames": chunk(b"acTL", bytes(8)), "short frames": chunk(b"acTL", b"\0"),
        "a frame": chunk(b"acTL", struct.pack(">2I", 2, 0))
        + chunk(b"fcTL", struct.pack(">5I2H2B", 0, 1 << 30, 1 << 30, 0, 0, 0, 0, 9, 9)),
        "density": chunk(b"pHYs", bytes(9)), "short density": chunk(b"pHYs", b"1"), "white": chunk(b"cHRM", bytes(3)),
        "intent": chunk(b"sRGB", b""),
    }  # fmt: skip
    for shown, one in extra.items():
        yield shown, png(8, 8, 8, 2, bytes(25 * 8), one)
        yield f"{shown}, a thousand times", png(8, 8, 8, 2, bytes(25 * 8), *[one] * (1000 if len(one) < 1000 else 3))


def text_bomb(kind: bytes, head: bytes) -> bytes:
    return chunk(kind, head + zlib.compress(bytes(64 << 20)))


PACKINGS = (*range(10), 32773, 32809, 32946, 34661, 34676, 34712, 34887, 34925, 50000, 50001, 65535)


def tiff(entries: dict[int, tuple[int, list[int]]], data: bytes) -> bytes:
    """A TIFF of any entries: of each tag the type, 3 for 16 bits and 4 for 32, and the values; data is at byte 8."""
    at = 8 + len(data) + len(data) % 2
    end, directory, beyond = at + 2 + 12 * len(entries) + 4, b"", b""
    for tag, (kind, values) in sorted(entries.items()):
        form = {1: "B", 3: "<%dH", 4: "<%dI"}[kind]
        raw = struct.pack(form % len(values), *values) if kind > 1 else bytes(values)
        if len(raw) > 4:
            place = struct.pack("<I", end + len(beyond))
            beyond += raw + bytes(len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        directory += struct.pack("<HHI", tag, kind, len(values)) + place
    head = b"II*\0" + struct.pack("<I", at)
    return head + data + bytes(len(data) % 2) + struct.pack("<H", len(entries)) + directory + bytes(4) + beyond


def odd_tiffs() -> Iterator[tuple[str, bytes]]:
    data = bytes(range(256)) * 8
    for bits, photometric, samples, kind in itertools.product(
        (0, 1, 2, 4, 8, 12, 16, 24, 32, 64), (0, 1, 2, 3, 5, 6, 8, 9, 32803), (0, 1, 2, 3, 4, 5), (1, 2, 3, 4)
    ):
        entries = {
            256: (3, [8]), 257: (3, [8]), 258: (3, [bits] * max(samples, 1)), 259: (3, [1]), 262: (3, [photometric]),
            273: (4, [8]), 277: (3, [samples]), 278: (4, [8]), 279: (4, [len(data)]),
            339: (3, [kind] * max(samples, 1)),
        }  # fmt: skip
        yield f"{bits} bits, photometric {photometric}, {samples} samples, format {kind}", tiff(entries, data)
    whole = {
        256: (4, [8]), 257: (4, [8]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 273: (4, [8]), 277: (3, [1]),
        278: (4, [8]), 279: (4, [64]),
    }  # fmt: skip
    for tag, name in ((number, name) for name, number in TAGS.items()):
        for values in ([], [0], [8], [30_000], [1 << 31], [(1 << 32) - 1], [8] * 1000):
            yield f"{name} is {str(values)[:20]}, {len(values)} in all", tiff({**whole, tag: (4, values)}, data)
    for packing in PACKINGS:
        for side in (8, 30_000):
            sizes = {256: (4, [side]), 257: (4, [side]), 278: (4, [side]), 279: (4, [len(data)])}
            yield f"packing {packing} of {side} pixels", tiff({**whole, **sizes, 259: (3, [packing])}, data)


def odd_gifs() -> Iterator[tuple[str, bytes]]:
    for (sw, sh), (w, h), (x, y), code in itertools.product(
        ((0, 0), (1, 1), (65_535, 65_535), (65_535, 1), (11_585, 11_585)),
        ((0, 0), (1, 1), (65_535, 65_535)),
        ((0, 0), (65_535, 65_535)),
        (0, 2, 8, 12),
    ):
        head = b"GIF89a" + struct.pack("<2H3B", sw, sh, 0x80, 0, 0) + bytes(6)
        frame = struct.pack("<B4HB", 0x2C, x, y, w, h, 0) + bytes([code]) + b"\2\x4c\1\0"
        yield f"a frame of {w} x {h} at {x}, {y} on {sw} x {sh}, codes of {code}", head + frame + b";"


def odd_ppms() -> Iterator[tuple[str, bytes]]:
    numbers = ["0", "1", "8", "-1", "+8", "08", "8.0", "1e3", "0x8", "65535", "65536", "99999", "2147483648", "9" * 20]
    numbers += ["9" * 5000, "", "x", "\x1b"]
    for magic in (
        "P0",
        "P1",
        "P2",
        "P3",
        "P4",
        "P5",
        "P6",
        "P7",
        "P8",
        "PF",
        "Pf",
        "PyP",
        "PyRGBA",
        "PyCMYK",
        "P0CMYK",
        "P6\x1b",
    ):
        for place, number in itertools.product(range(3), numbers):
            said = ["8", "8", "-1" if magic in ("PF", "Pf") else "255"]
            said[place] = number
            head = f"{magic}\n{said[0]} {said[1]}\n{said[2]}\n".encode()
            yield f"{magic} {' '.join(said)[:60]!r}", head + bytes(600)
            yield f"{magic} {' '.join(said)[:60]!r} with text", head + b"1 " * 300
        for shown, blank in {
            "comments": "#x\n" * 3000,
            "a comment without end": "#" + "x" * 99_999,
            "blanks": " " * 99_999,
        }.items():
            yield f"{magic} with {shown}", f"{magic} {blank} 8 8 255\n".encode() + bytes(600)
        yield f"{magic} without pixels", f"{magic} 11585 11585 255\n".encode()


def bombs() -> Iterator[tuple[str, bytes]]:
    """Pictures of few bytes and many pixels."""
    for side in (11_585, 30_000, 65_535, 1 << 31):
        for bits, colours in ((1, 0), (8, 3), (8, 2), (16, 0), (16, 2), (16, 6)):
            for interlaced in (0, 1):
                between = [chunk(b"PLTE", bytes(6)), chunk(b"tRNS", bytes(2))] if colours == 3 else []
                yield (
                    f"PNG of {side}, {bits} bits, colours {colours}, {interlaced}",
                    png(side, side, bits, colours, bytes(1 << 20), *between, interlaced=interlaced),
                )
        for bits, packing in ((1, 0), (8, 0), (8, 1), (4, 2), (16, 0), (24, 0), (32, 0), (32, 3)):
            head = struct.pack(
                "<2s3I3I2H6I", b"BM", 0, 0, 54 + 1024, 40, side % (1 << 31), side, 1, bits, packing, 0, 0, 0, 0, 0
            )
            yield f"BMP of {side}, {bits} bits, packing {packing}", head + bytes(4096)
        for magic in ("P4", "P5", "P6", "Pf"):
            yield (
                f"{magic} of {side}",
                f"{magic} {side} {side}{' 65535' if magic != 'P4' else ''}\n".encode() + bytes(4096),
            )
    for width, height in ((1, 1 << 27), (1 << 27, 1), (1, 700_000), (700_000, 1), (65_500, 2000)):
        yield f"PNG of {width} x {height}", png(width, height, 1, 0, bytes(min(1 << 25, (width // 8 + 2) * height)))
