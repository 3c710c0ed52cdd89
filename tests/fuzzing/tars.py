"""Odd tars."""

import bz2
import gzip
import itertools
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from fuzzing.archived import FILES, MEGABYTE, NAMES
from fuzzing.fields import Field, Good

PRESSES: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, "gz": partial(gzip.compress, mtime=0), "bz2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip
HEADER = {
    "name": (0, 100), "mode": (100, 8), "owner": (108, 8), "group": (116, 8), "size": (124, 12), "time": (136, 12),
    "checksum": (148, 8), "type": (156, 1), "target": (157, 100), "magic": (257, 8), "owner's name": (265, 32),
    "group's name": (297, 32), "major": (329, 8), "minor": (337, 8), "prefix": (345, 155),
}  # fmt: skip
"""Where each field of a tar's header begins, and its length."""
CELLS = {
    "empty": b"", "spaces": b" " * 12, "0": b"0", "-1": b"-1", "+1": b"+1", "1_0": b"1_0", "a hex number": b"0x10",
    "letters": b"xyz", "7s": b"7" * 155, "9s": b"9" * 12, "no UTF-8": b"\xff\xfe", "ones": b"\xff" * 155,
    "2^63": b"\x80\0\0\0\x80" + bytes(7), "2^40": b"\x80" + bytes(5) + b"\1" + bytes(5),
    "-2^32": b"\xff" * 7 + b"\1" + bytes(4), "-512": b"\xff" * 10 + b"\xfe\0", "a little more": b"00000001000",
    "2^28 + 1": b"2000000001", "dots": b"../../a.png", "an escape": b"\x1b[2J",
}  # fmt: skip
TYPES = b"\0" + bytes(range(0x20, 0x7F)) + b"\xff"
DIGITS = b"1" + b"0" * 5000
RECORDS = {
    "size": [b"0", b"-1", b"1", b"99999999999", DIGITS, b"1e9", b"x", b"", b"9223372036854775808", b"-512", b"1.5"],
    "path": [b"", b"/etc/passwd", b"../../a.png", b"a" * 140_000, b"a\0b", b"\xff.png", b"cat/\x1b[2J", b"a/" * 1100],
    "linkpath": [b"/etc/passwd", b"x" * 99_999], "mtime": [b"nan", b"inf", b"1e999", b"-1", DIGITS, b"x"],
    "uid": [b"-1", DIGITS, b"x"], "hdrcharset": [b"BINARY", b"x"], "GNU.sparse.major": [b"1", b"-1", DIGITS, b"x"],
    "GNU.sparse.map": [b"", b"0", b"0,1,x", b"-1,5", b"0," + DIGITS, b"0,99999999999", b",".join([b"0,1"] * 20_000)],
    "GNU.sparse.size": [b"-1", b"99999999999", DIGITS, b"x"],
    "GNU.sparse.realsize": [b"-1", b"99999999999", DIGITS, b"x"],
    "GNU.sparse.name": [b"../../a.png", b"a" * 140_000, b""],
    "GNU.sparse.numblocks": [b"-1", b"99999999999", DIGITS, b"x"],
    "GNU.sparse.offset": [b"-1", b"99999999999", DIGITS, b"x"],
}  # fmt: skip
"""Values for the words of a pax header."""
PAX = {
    "no length": b"path=a\n", "length 0": b"0 path=a\n", "length -5": b"-5 path=a\n",
    "a long length": DIGITS + b" path=a\n", "no =": b"8 patha\n", "no line end": b"9 path=ab",
    "beyond the end": b"999999 path=a\n", "digits alone": b"1" * 400_000,
    "digits and a space": (b"1" * 4000 + b" ") * 100, "zeros": bytes(4096), "empty": b"", "spaces": b" " * 100_000,
}  # fmt: skip
"""Whole pax headers."""


def tar_member(
    name: bytes, content: bytes, kind: bytes = b"0", odd: Mapping[str, bytes] = MappingProxyType({})
) -> bytes:
    """A member of a tar, whose header's fields may be anything, by their names in HEADER."""
    header = bytearray(512)
    said = {
        "name": name, "mode": b"0000644", "owner": b"0000000", "group": b"0000000", "size": b"%011o" % len(content),
        "time": b"00000000000", "type": kind, "magic": b"ustar\x0000",
    }  # fmt: skip
    for key, cell in {**said, **odd}.items():
        at, length = HEADER[key]
        header[at : at + length] = cell[:length].ljust(length, b"\0")
    if "checksum" not in odd:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def pax_record(word: str, value: bytes) -> bytes:
    rest = b" " + word.encode() + b"=" + value + b"\n"
    length = next(n for n in itertools.count(len(rest) + 1) if n == len(rest) + len(str(n)))
    return str(length).encode() + rest


REST = tar_member(b"dog/b.png", FILES["dog/b.png"]) + bytes(1024)
"""A good member, and the end of a tar."""


def odd_tars() -> Iterator[tuple[str, bytes]]:
    """What is odd in a tar, and the tar."""
    image = FILES["cat/a.png"]
    for key in HEADER:
        for shown, cell in CELLS.items():
            yield f"{key} = {shown}", tar_member(b"cat/a.png", image, odd={key: cell}) + REST
    for number in TYPES:
        yield f"type = {bytes([number])!r}", tar_member(b"cat/a.png", image, bytes([number])) + REST
    for shown, name in NAMES.items():
        raw = name.encode("utf-8", "surrogatepass")
        for long, kind in (("name", b"L"), ("target", b"K")):
            member = tar_member(b"././@LongLink", raw + b"\0", kind) + tar_member(b"cat/a.png", image)
            yield f"long {long} is {shown}", member + REST
    for shown, text in PAX.items():
        for kind in (b"x", b"g", b"X"):
            yield (
                f"pax header {kind.decode()}: {shown}",
                tar_member(b"pax", text, kind) + tar_member(b"a/a", image) + REST,
            )
    for word, values in RECORDS.items():
        for value in values:
            for kind in (b"x", b"g"):
                text = pax_record(word, value)
                for beside in (b"", pax_record("GNU.sparse.major", b"1") + pax_record("GNU.sparse.minor", b"0")):
                    yield (
                        f"pax {kind.decode()} {word} = {value[:20]!r}, {len(value)} long{', sparse' if beside else ''}",
                        tar_member(b"pax", beside + text, kind) + tar_member(b"cat/a.png", image) + REST,
                    )
    for i, (at, cell) in enumerate(itertools.product(range(386, 496, 12), CELLS.values())):
        header = bytearray(tar_member(b"cat/a.png", image, b"S"))
        header[386:410] = b"%011o\0%011o\0" % (0, len(image))
        header[at : at + 12] = cell[:12].ljust(12, b"\0")
        header[482] = i % 2  # whether more such numbers follow
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header[:512])
        yield f"sparse {at}: {cell[:12]!r}", bytes(header) + REST
    good = tar_member(b"cat/a.png", image) + REST
    yield "a tar behind a tar", good + good
    yield "text behind a tar", good + b"text" * 200
    yield "a header without its data", tar_member(b"cat/a.png", image)[:512]
    yield "half a header", good[:700]
    yield "extended headers on end", tar_member(b"pax", pax_record("path", b"a"), b"x") * 3000 + good
    yield "long names on end", tar_member(b"name", b"a\0", b"L") * 3000 + good
    yield "an extended header at the end", good[:-1024] + tar_member(b"pax", pax_record("path", b"a"), b"x")
    yield "ten thousand empty members", tar_member(b"cat/a.png", b"") * 10_000 + bytes(1024)
    yield "ten thousand texts", b"".join(tar_member(b"cat/%d" % i, b"") for i in range(10_000)) + bytes(1024)


def tar_bomb(press: Callable[[bytes], bytes], kind: bytes, megabytes: int) -> bytes:
    """A member of megabytes of zeros, each of which is a stream of its own in the compressed file."""
    head = tar_member(b"a.txt", b"", kind, {"size": b"%011o" % (megabytes << 20)})
    return press(head) + press(MEGABYTE) * megabytes + press(REST)


def good_tar(kind: str) -> Good:
    """A compressed tar, of which the numbers are those of the compressed file's head."""
    content = PRESSES[kind](b"".join(tar_member(n.encode(), c) for n, c in FILES.items()) + bytes(1024))
    numbers = [Field(f"byte {at}", at, "<B") for at in range(min(32, len(content)))]
    numbers += [Field(f"byte {at - len(content)}", at, "<B") for at in range(len(content) - 16, len(content))]
    middle = len(content) // 2
    pieces = {"all": slice(0, len(content)), "first half": slice(0, middle), "second half": slice(middle, len(content))}
    return Good(content, numbers, pieces, _xz_mended if kind == "xz" else bytes)


def _xz_mended(content: bytes) -> bytes:
    """With the right checksums of the stream's and the block's head, where the size of the dictionary is."""
    if len(content) < 32:
        return content
    changed = bytearray(content)
    struct.pack_into("<I", changed, 8, zlib.crc32(changed[6:8]))
    end = 12 + 4 * (changed[12] + 1) - 4
    if end + 4 <= len(changed):
        struct.pack_into("<I", changed, end, zlib.crc32(changed[12:end]))
    return bytes(changed)
