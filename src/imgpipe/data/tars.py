"""Read tars of others: what tarfile lets a header or a compression take of memory and time is bounded."""

import io
import lzma
import tarfile
from pathlib import Path
from typing import Any, Self

LONGEST_HEADER = 1 << 20
"""Bytes of the longest header before a member's own, which has a long name or what else is said of the member."""
DICTIONARY = 1 << 28
"""Bytes of memory that unpacking xz may take; what ``xz -9`` packs needs a quarter."""
PIECE = 1 << 20
"""Bytes that are read or unpacked at a time."""
EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
"""Types of headers whose records say more of the next member, or of all."""
LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Types of headers that hold a long name of the next member, or of what it links to."""
SPARSE = "'{}' is stored without its zeros, as tar --sparse does, which is not read"
XZ = (b"\xfd7zXZ\0", b"]\0\0")
"""First bytes of an xz file and of its predecessor, lzma."""


class _Xz(io.RawIOBase):
    """Reads what an xz file unpacks to, as ``lzma.open`` does but within the memory of DICTIONARY; it can't go back."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._decoder = lzma.LZMADecompressor(memlimit=DICTIONARY)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content:
            block = b""
            if self._decoder.eof:
                block = self._decoder.unused_data.lstrip(b"\0") or self._file.read(PIECE)
                if not block:
                    return 0
                if not (block := block.lstrip(b"\0")):  # zeros may stand between streams
                    continue
                self._decoder = lzma.LZMADecompressor(memlimit=DICTIONARY)
            elif self._decoder.needs_input and not (block := self._file.read(PIECE)):
                raise EOFError("the xz file ends within a stream")
            content = self._decoder.decompress(block, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = offset + self._place if whence == io.SEEK_CUR else offset
        assert place >= self._place
        while self._place < place and self.read(min(PIECE, place - self._place)):
            pass
        return self._place

    def close(self) -> None:
        self._file.close()
        super().close()


class HeaderError(tarfile.TarError):
    """Says why a tar's header is refused, also where it is the first, by which tarfile knows tars."""


class _TarInfo(tarfile.TarInfo):
    """Makes a damaged header within a tar an error, which tarfile takes for the archive's end, and bounds headers."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            member = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from None
        if member.size < 0:  # as a header before its own may say
            raise HeaderError(f"a header says {member.size:,} bytes at byte {archive.offset:,}")
        return member

    def _proc_member(self, archive: Any) -> tarfile.TarInfo:
        """Return the member whose first header this is; tarfile means this method to be overridden."""
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise HeaderError(SPARSE.format(self.name))
        if self.size < 0 or (self.type in EXTENDED + LONG and self.size > LONGEST_HEADER):
            raise HeaderError(f"a header says {self.size:,} bytes at byte {archive.offset:,}")
        if self.type not in EXTENDED:
            return super()._proc_member(archive)  # type: ignore[misc, no-any-return]
        return self._described(archive, _records(archive.fileobj.read(_in_blocks(self.size))[: self.size]))

    def _described(self, archive: Any, records: dict[str, str]) -> tarfile.TarInfo:
        """Return the next member, with the name and the size that the records of this extended header give it.

        tarfile keeps all that headers say, and takes hours for one of digits (CVE-2024-6232).
        """
        name, size = records.get("path"), records.get("size")
        if any(key.startswith("GNU.sparse.") for key in records):
            raise HeaderError(SPARSE.format(name or records.get("GNU.sparse.name", "")))
        del records  # many such headers may follow each other
        member = self.fromtarfile(archive)
        if self.type == tarfile.XGLTYPE:  # of all members, of whom it can say neither
            return member
        if name is not None:
            member.name = name.rstrip("/")
        if size is not None:
            member.size = int(size)
            archive.offset = member.offset_data + (_in_blocks(member.size) if _has_data(member) else 0)
        return member


def _records(header: bytes) -> dict[str, str]:
    """Return what the records ``length keyword=value`` of an extended header say.

    A record's length is that of all of it, up to the line's end. Raises HeaderError where it is none.

    >>> _records(b"14 path=a.png\\n")
    {'path': 'a.png'}
    """
    said = {}
    place, end = 0, len(header.rstrip(b"\0"))
    while place < end:
        length, space, _ = header[place : place + 9].partition(b" ")
        behind = place + int(length if space and length.isdigit() else 0)
        keyword, mark, value = header[place + len(length) + 1 : behind - 1].partition(b"=")
        if not mark or header[behind - 1 : behind] != b"\n":
            raise HeaderError("a header has no records, which begin with their lengths")
        said[keyword.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        place = behind
    return said


def _in_blocks(size: int) -> int:
    """Return a size rounded up to whole blocks."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _has_data(member: tarfile.TarInfo) -> bool:
    return member.isreg() or member.type not in tarfile.SUPPORTED_TYPES


class Tar(tarfile.TarFile):
    """Reads a tar with bounded headers, and a bounded dictionary where it is compressed with xz."""

    tarinfo = _TarInfo

    @classmethod
    def xzopen(cls, name: Any, *args: Any, **kwargs: Any) -> Self:
        """Open an xz file; tarfile calls this method, and tries another where it raises ReadError."""
        with Path(name).open("rb") as file:
            if not file.read(6).startswith(XZ):
                raise tarfile.ReadError("not an xz file")
        return cls.taropen(name, fileobj=io.BufferedReader(_Xz(Path(name)), PIECE))
