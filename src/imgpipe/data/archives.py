"""What is in an archive or a folder: its files, which of them are images, and which splits its folders name.

A zip or a tar is read member by member: nothing is unpacked to the disk. Tars are written, too.
"""

import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from imgpipe.common.errors import InputError, one_line

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
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
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


def files_below(folder: Path, above: Set[str] = frozenset()) -> Iterator[Path]:
    """Yield the files in a folder and those below it, except hidden ones.

    Links are followed, but for those back to a folder above them.

    above: the real paths of the folders that lead here.
    """
    above = above | {os.path.realpath(folder)}
    for path in folder.iterdir():
        if path.name.startswith(".") or os.path.realpath(path) in above:  # Path.resolve raises at a link to itself
            continue
        if path.is_dir():
            yield from files_below(path, above)
        elif path.is_file():
            yield path


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
        """Its path, with what is no UTF-8 in it written as escapes."""
        return self.name.encode("utf-8", "backslashreplace").decode()


def members(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Member]:
    """Yield the files in a zip or tar, in the archive's order, except hidden ones such as macOS's ``._cat.jpg``.

    Names that point outside the archive, links, devices, oversized and damaged members come without content, and so do
    those that are not wanted, which in a tar without compression costs no reading.

    wanted: says of a name whether its content is.

    Raises InputError where the archive itself can't be read to its end.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an archive; source folder would take it")
    try:
        tarred = tarfile.is_tarfile(path)  # first: a tar may end with a zip, which is_zipfile would find
        if not tarred and not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                if file.read(4) == b"PK\3\4":
                    raise InputError(f"{path} is a zip archive without its end; get or make it anew")
            raise InputError(f"{path} is neither a zip nor a tar archive, as far as its content tells")
        for member in _tarred(path, wanted) if tarred else _zipped(path, wanted):
            if not any(part.startswith(".") and part != ".." for part in PurePosixPath(member.name).parts):
                yield member
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} can't be read: {one_line(error, named=True)}; get or make it anew") from None


def _zipped(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.replace("\\", "/")  # as some programs on Windows write them
            if name.endswith("/"):
                continue
            problem = _problem(name, member.file_size)
            try:
                content = archive.read(member) if wanted(name) and not problem else None
            except DAMAGE as error:
                reason = " ".join([type(error).__name__, *str(error).split()])  # as data/rejected.csv has it
                content, problem = None, f"damaged: {reason}"
            yield Member(name, content, problem)


class _StrictTarInfo(tarfile.TarInfo):
    """Makes a damaged header within a tar an error; tarfile takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from None


def _tarred(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
    with tarfile.open(path, tarinfo=_StrictTarInfo) as archive:
        for member in archive:
            if member.isdir():
                continue
            problem = _problem(member.name, member.size)
            if not member.isreg():
                problem = "a link" if member.issym() or member.islnk() else "a device or the like"
            file = archive.extractfile(member) if wanted(member.name) and not problem else None
            yield Member(member.name, file.read() if file else None, problem)
        assert archive.fileobj
        while archive.fileobj.read(1 << 20):  # to the end, where compressed ones have their checksum
            pass


def _problem(name: str, size: int) -> str:
    """Return why a member of this name and size is not read; nothing where it is."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return "its name points outside the archive"
    if name != name.encode("utf-8", "replace").decode() or "\0" in name:
        return "its name is not valid UTF-8"
    if size > LARGEST:
        return f"its {size:,} bytes are more than the {LARGEST:,} that are read"
    return ""


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar whose bytes depend on the files' names and contents alone: no times, owners or modes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
