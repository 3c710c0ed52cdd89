"""Odd zips."""

import io
import struct
import zipfile
import zlib

from fuzzing.archived import FILES, MEGABYTE
from fuzzing.fields import Good, numbers_at

LOCAL = {
    "_signature": "4s", "version": "<H", "flags": "<H", "method": "<H", "time": "<H", "date": "<H", "crc": "<I",
    "compressed size": "<I", "size": "<I", "name's length": "<H", "extra length": "<H",
}  # fmt: skip
CENTRAL = {
    "_signature": "4s", "made by": "<H", "version": "<H", "flags": "<H", "method": "<H", "time": "<H", "date": "<H",
    "crc": "<I", "compressed size": "<I", "size": "<I", "name's length": "<H", "extra length": "<H",
    "comment's length": "<H", "disk": "<H", "inner attributes": "<H", "outer attributes": "<I", "offset": "<I",
}  # fmt: skip
END = {
    "_signature": "4s", "disk": "<H", "first disk": "<H", "entries here": "<H", "entries": "<H",
    "size of the directory": "<I", "offset of the directory": "<I", "comment's length": "<H",
}  # fmt: skip
METHODS = {"stored": 0, "deflate": 8, "bzip2": 12, "lzma": 14}


def good_zip(method: int) -> Good:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    content = buffer.getvalue()
    entry, local, end = content.index(b"PK\1\2"), 0, content.index(b"PK\5\6")
    second = content.index(b"PK\3\4", 4)
    numbers = [*numbers_at("local ", local, LOCAL), *numbers_at("", entry, CENTRAL), *numbers_at("end's ", end, END)]
    pieces = {
        "first member": slice(local, second), "its data": slice(30 + 9, second),
        "first entry": slice(entry, content.index(b"PK\1\2", entry + 4)), "directory": slice(entry, end),
        "end": slice(end, len(content)), "all": slice(0, len(content)),
    }  # fmt: skip
    return Good(content, numbers, pieces)


def zip_named(name: str) -> bytes:
    """A zip with a member of any name, which zipfile would mend."""
    buffer = io.BytesIO()
    raw = name.encode("utf-8", "surrogatepass")
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x" * len(raw), FILES["cat/a.png"])
        archive.writestr("cat/a.png", FILES["cat/a.png"])
    content = bytearray(buffer.getvalue().replace(b"x" * len(raw), raw))
    for at in (6, content.index(b"PK\1\2") + 8):
        content[at + 1] |= 8  # the name is UTF-8
    return bytes(content)


def zip_with_extra(extra: bytes) -> bytes:
    """A zip whose first entry has an extra field, such as zip64's."""
    content = good_zip(0).content
    entry, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    changed = bytearray(content[: entry + 46 + 9] + extra + content[entry + 46 + 9 :])
    struct.pack_into("<H", changed, entry + 30, len(extra))
    for at in (20, 24, 42):  # sizes and offset are in the extra field
        struct.pack_into("<I", changed, entry + at, 0xFFFFFFFF)
    struct.pack_into("<I", changed, end + len(extra) + 12, end + len(extra) - entry)
    return bytes(changed)


def zip_bomb(megabytes: int, said: int, copies: int) -> bytes:
    """Members of zeros that lie upon one another: so many copies of so many megabytes that are said to be fewer."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    whole = press.compress(MEGABYTE) + press.flush(zlib.Z_FULL_FLUSH)
    data = whole * megabytes + b"\3\0"
    numbers = (20, 0, 8, 0, 0, zlib.crc32(bytes(said)) if said < 1 << 24 else 0, len(data), said)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", *numbers, 0, 0) + data
    entries = b""
    for i in range(copies):
        name = b"cat/%d.txt" % i
        entries += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *numbers, len(name), 0, 0, 0, 0, 0, 0) + name
    return local + entries + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, copies, copies, len(entries), len(local), 0)


def extras() -> dict[str, bytes]:
    numbers = (0, 1, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
    zip64 = {f"zip64 {a:#x} {b:#x}": struct.pack("<2H3Q", 1, 24, a, a, b) for a in numbers for b in numbers}
    return {
        **zip64, "zip64 cut": struct.pack("<2HI", 1, 24, 0), "zip64 empty": struct.pack("<2H", 1, 0),
        "one byte": b"\1", "beyond its end": struct.pack("<2H", 99, 65_535),
        "a name": struct.pack("<2HBI", 0x7075, 9, 1, 0) + b"\xff\xfe\xfd\xfc",
    }  # fmt: skip
