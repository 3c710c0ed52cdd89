"""Pictures inside a zip or a tar, read one by one: nothing is unpacked to the disk. And tars, written."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from imgpipe.errors import InputError

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def is_picture(name: str) -> bool:
    """Whether a file's name says that it is a picture; hidden files, such as macOS's ``._cat.jpg``, are not."""
    path = PurePosixPath(name)
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def pictures(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Name and bytes of each picture of a zip or tar, in the archive's order.

    Raises InputError for a damaged archive, and for one that names a place outside itself.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an archive; source folder would take it")
    tarred = tarfile.is_tarfile(path)  # first: a tar may end with a zip, which is_zipfile would find
    if not tarred and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is neither a zip nor a tar archive, as far as its content tells")
    try:
        yield from _tarred(path) if tarred else _zipped(path)
    except DAMAGE as error:
        raise InputError(f"{path} can't be read: {' '.join(str(error).split())}; get or make it anew") from None


def _zipped(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if is_picture(member.filename) and not member.is_dir():
                yield _inside(path, member.filename), archive.read(member)


def _tarred(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() and is_picture(member.name) else None
            if content:
                yield _inside(path, member.name), content.read()


def _inside(path: Path, name: str) -> PurePosixPath:
    member = PurePosixPath(name)
    if member.is_absolute() or ".." in member.parts:
        raise InputError(f"{path} holds '{name}', which points outside the archive; make the archive anew")
    if name != name.encode("utf-8", "replace").decode():
        raise InputError(f"{path} holds {name!r}, a name that is not valid UTF-8; rename it")
    return member


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """A tar whose bytes depend on the files' names and contents alone: no times, owners or modes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
