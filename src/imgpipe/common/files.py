"""Write files whole or not at all, digest them, and read and write tables.

An output is written beside its place and moved there. That also keeps DVC's cache safe: an output may be a hard link
to it, and is replaced, never written into.
"""

import csv
import fcntl
import glob
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a file to, which becomes ``path`` when the block ends, and vanishes when it fails.

    Where ``path`` is no file but a device or a pipe it stays, and what was written goes through it.
    """
    if takes_what_comes(path):
        with TemporaryDirectory() as folder, _saying(path):
            yield (draft := Path(folder, "draft"))
            with draft.open("rb") as made, path.open("wb") as taker:
                shutil.copyfileobj(made, taker)
        return
    with _new_draft(path, Path.touch) as draft:
        yield draft
        draft.replace(path)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, which takes the place of ``path`` when the block ends, and vanishes when it fails."""
    with _new_draft(path, Path.mkdir) as draft:
        yield draft
        shutil.rmtree(path, ignore_errors=True)
        draft.replace(path)


def takes_what_comes(path: Path | str) -> bool:
    """Return whether the path is a device, a pipe or a socket: neither a file nor a folder."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112, PTH113 (a Path raises for long names)


@contextmanager
def _new_draft(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a draft beside its place, which vanishes when the block ends, and remove those of runs that were killed.

    A draft is locked for as long as its process lives, so that no other takes it for left behind.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    unlocked = draft.with_suffix(".new")
    with _saying(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.draft"):
            if _is_left_behind(left):
                _remove(left)
        _remove(unlocked)  # of a process of the same number
        make(unlocked)
        with _locked(unlocked):
            try:
                yield unlocked.rename(draft)
            finally:
                _remove(draft)


def _is_left_behind(draft: Path) -> bool:
    """Return whether no process holds a draft's lock; False where the file system has no locks to ask for."""
    try:
        handle = os.open(draft, os.O_RDONLY)
    except OSError:  # another process has removed it
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def _locked(draft: Path) -> Iterator[None]:
    """Hold the lock of a new draft, where the file system has locks."""
    handle = os.open(draft, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing it is not enough where a process was forked meanwhile
        os.close(handle)


@contextmanager
def _saying(path: Path) -> Iterator[None]:
    """Give an OSError of the block that names no file, as those of a full disk do, the name of the one written."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file with this text and no other, in UTF-8 and with "\\n" at the ends of lines."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """Return a digest of a file's content, or of the names and contents of a folder's files.

    In a folder, compiled Python and what is hidden do not count: an editor's and a system's own files.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.parent.name != "__pycache__")
        names = [file.relative_to(path) for file in files]
        shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
        return digest_of_text(json.dumps([(name.as_posix(), digest_of(path / name)) for name in shown]))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def digest_of_text(text: str) -> str:
    """Return a digest of the text in UTF-8."""
    return hashlib.blake2b(text.encode()).hexdigest()


def table_text(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a CSV table: the names of its columns, then a row for each mapping.

    A float gets as many digits as give the same float again. Lines end in "\\n", so that equal tables are equal bytes.
    """
    text = io.StringIO()
    _write_rows(text, names, rows)
    return text.getvalue()


def _write_rows(file: TextIO, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(_UnixLines(file), fieldnames=names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)


class _UnixLines:
    """Takes lines with "\\r\\n" at their ends and writes them with "\\n": only so does csv quote a "\\r" in a cell."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def write_table(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of ``table_text``, of which each row is written before the next one is taken."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        _write_rows(file, names, rows)


def write_records(path: Path, record: type, rows: Iterable[Any]) -> None:
    """Write a table of objects of a dataclass; its fields are the columns."""
    names = [field.name for field in fields(record)]
    write_table(path, names, ({name: getattr(row, name) for name in names} for row in rows))


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, each cell as text."""
    return list(read_rows(path))


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Read the rows of a CSV file one after the other, for a table that need not be in memory as a whole."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
