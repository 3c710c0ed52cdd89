"""What is in an archive: its files, which of them are images, and which splits its folders name.

A zip or a tar is read member by member: nothing is unpacked to the disk. Tars are written, too.
"""

import bz2
import copy
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from imgpipe.common.errors import InputError, one_line
from imgpipe.data.tars import DICTIONARY, PIECE, Tar

IMAGE_SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
"""First bytes of a JPEG, PNG, GIF or TIFF file."""
BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What stands behind ``ftyp`` in an AVIF or HEIC file; other words stand there in films."""
SPLIT_OF_FOLDER = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "evaluation": "test",
}  # fmt: skip
"""The split that a folder of this name, in small letters, holds."""
LARGEST = 1 << 28
"""Bytes of the largest file that is read."""
ALWAYS_UNPACKED = 1 << 30
"""Bytes that an archive of whatever size may unpack to."""
MOST_EXPANSION = 1100
"""Times its own size that an archive may unpack to, beyond ``ALWAYS_UNPACKED``; deflate reaches 1,032."""
LONGEST_NAME = 255
"""Bytes of the longest name of a file or folder, on all common file systems."""
LONGEST_PATH = 4096
"""Bytes of the longest path, Linux's PATH_MAX. Paths are kept in CSV tables, whose cells hold 131,072 characters."""
ZIP_HEADER = 30
"""Bytes that stand before a member of a zip at least."""
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What Python's readers raise at a damaged archive."""


def names_an_image(name: str) -> bool:
    """Return whether a file's name ends as that of an image does."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_image(name: str, start: bytes) -> bool:
    """Return whether a file is an image by its name or, where that says nothing, by its first bytes.

    start: the file's first bytes; 12 suffice.
    """
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    avif_or_heic = start[4:8] == b"ftyp" and start[8:12] in BRANDS
    return names_an_image(name) or webp or avif_or_heic or start.startswith(SIGNATURES)


def is_image_file(path: Path) -> bool:
    """Return ``is_image`` of a file on the disk, which is opened only where its name says nothing. Raises OSError."""
    if names_an_image(path.name):
        return True
    with path.open("rb") as file:
        return is_image(path.name, file.read(12))


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    name: str
    """Its path in the archive."""
    content: bytes | None
    """Its bytes, or None where it is not read."""
    problem: str
    """Why it can't be read; empty where it can."""

    @property
    def shown(self) -> str:
        """Its path, with what is no UTF-8 in it written as escapes; the middle left out where it is too long."""
        name = self.name if not too_long(self.name) else f"{self.name[:60]}...{self.name[-40:]}"
        return name.encode("utf-8", "backslashreplace").decode()


def members(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Member]:
    """Yield the files in a zip or tar, in the archive's order, except hidden ones such as macOS's ``._cat.jpg``.

    Names that point outside the archive, links, devices, oversized and damaged members come without content, and so do
    those that are not wanted, which in a tar without compression costs no reading.

    wanted: says of a name whether its content is.

    Raises InputError where the archive itself can't be read to its end.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an archive; source folder would take it")
    if not path.is_file():
        raise InputError(f"{path} is no file that can be read as an archive; name a zip or tar")
    try:
        for member in _tarred(path, wanted) if _is_tar(path) else _zipped(path, wanted):  # a tar may end with a zip
            if not any(part.startswith(".") and part != ".." for part in PurePosixPath(member.name).parts):
                yield member
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} can't be read: {one_line(error, named=True)}; get or make it anew") from None


def _unpacking_check(path: Path) -> Callable[[int], None]:
    """Return what refuses the number of bytes that an archive unpacks to, where its own size does not explain it."""
    most = ALWAYS_UNPACKED + MOST_EXPANSION * path.stat().st_size

    def check(unpacked: int) -> None:
        if unpacked > most:
            raise InputError(
                f"{path} unpacks to more than {most:,} bytes, which images do not; if you trust it, unpack it yourself "
                "and take source folder"
            )

    return check


def _zipped(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(4) == b"PK\3\4":
                raise InputError(f"{path} is a zip archive without its end; get or make it anew")
        raise InputError(f"{path} is neither a zip nor a tar archive, as far as its content tells")
    unpacked, check = 0, _unpacking_check(path)
    with zipfile.ZipFile(path) as archive:
        _check_apart(path, archive)
        for member in archive.infolist():
            name = member.filename.replace("\\", "/")  # as some programs on Windows write them
            if name.endswith("/"):
                continue
            problem, content = _problem(name, member.file_size), None
            if wanted(name) and not problem:
                unpacked += member.file_size
                check(unpacked)
                try:
                    content = _unzipped(archive, member)
                except DAMAGE as error:
                    reason = " ".join([type(error).__name__, *str(error).split()])  # as data/rejected.csv has it
                    problem = f"damaged: {reason}"
            yield Member(name, content, problem)


def _check_apart(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a zip whose members overlap, so that few bytes unpack to many."""
    for one, other in pairwise(sorted(archive.infolist(), key=lambda member: member.header_offset)):
        if one.header_offset + ZIP_HEADER + one.compress_size > other.header_offset:
            raise InputError(
                f"{path} holds '{one.filename}' and '{other.filename}' in the same bytes; make the archive anew"
            )


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a member's bytes, of which no more are unpacked than it says to have. Raises one of DAMAGE."""
    if member.compress_type not in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with archive.open(member) as file:
            content = b"".join(iter(partial(file.read, PIECE), b""))  # of which it verifies the checksum
    else:
        content = _decoded(archive, member)
        if zlib.crc32(content) != member.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.filename!r}")
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(f"{len(content)} of {member.file_size} bytes for file {member.filename!r}")
    return content


def _decoded(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return what a member of bzip2 or lzma unpacks to, up to a byte more than it says to have.

    zipfile would unpack 4 kB of it at a time, which may be gigabytes.
    """
    packed = copy.copy(member)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, member.compress_size
    del packed.CRC  # that of the unpacked bytes
    with archive.open(packed) as file:
        start = b""
        decoder: Any = bz2.BZ2Decompressor()
        if member.compress_type == zipfile.ZIP_LZMA:  # a version, the size of the properties, these, and the stream
            start = file.read(9)[4:] + b"\xff" * 8  # as an lzma file of unknown length begins
            decoder = lzma.LZMADecompressor(lzma.FORMAT_ALONE, DICTIONARY)
        pieces = [decoder.decompress(start, 0)]
        left = member.file_size + 1
        while left and not decoder.eof:
            block = file.read(PIECE) if decoder.needs_input else b""
            if decoder.needs_input and not block:
                break
            pieces.append(decoder.decompress(block, left))
            left -= len(pieces[-1])
    return b"".join(pieces)


def _is_tar(path: Path) -> bool:
    try:
        Tar.open(path).close()
    except tarfile.ReadError:
        return False
    return True


def _tarred(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
    check = _unpacking_check(path)
    with Tar.open(path) as archive:
        while member := archive.next():
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps all
            check(archive.offset)
            if member.isdir():
                continue
            problem = _problem(member.name, member.size)
            if not member.isreg():
                problem = "a link" if member.issym() or member.islnk() else "a device or the like"
            file = archive.extractfile(member) if wanted(member.name) and not problem else None
            yield Member(member.name, file.read() if file else None, problem)
        assert archive.fileobj
        while block := archive.fileobj.read(PIECE):  # to the end, where compressed ones have their checksum
            if block.strip(b"\0"):
                raise InputError(
                    f"{path} goes on behind its end, perhaps with another tar: make one archive of both (tar "
                    "--ignore-zeros unpacks them)"
                )
            check(archive.fileobj.tell())


def _problem(name: str, size: int) -> str:
    """Return why a member of this name and size is not read; nothing where it is."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return "its name points outside the archive"
    if name != name.encode("utf-8", "replace").decode() or "\0" in name:
        return "its name is not valid UTF-8"
    if size > LARGEST:
        return f"its {size:,} bytes are more than the {LARGEST:,} that are read"
    return too_long(name)


def too_long(path: str) -> str:
    """Return why a path is too long for a file of that name to be written; nothing where it is not."""
    name = path.encode("utf-8", "backslashreplace")
    length, longest = len(name), max(map(len, name.split(b"/")))
    if longest > LONGEST_NAME:
        return f"its path has a name of {longest:,} bytes, and a file's or folder's has {LONGEST_NAME} at most"
    if length > LONGEST_PATH:
        return f"its path has {length:,} bytes, and {LONGEST_PATH:,} are the most"
    return ""


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar whose bytes depend on the files' names and contents alone: no times, owners or modes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all
