"""Write files whole or not at all, digest them, and read and write tables.

An output is written beside its place and moved there. That also keeps DVC's cache safe: an output may be a hard link
to it, and is replaced, never written into.
"""

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a file to, which becomes ``path`` when the block ends, and vanishes when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, which takes the place of ``path`` when the block ends, and vanishes when it fails."""
    draft = _draft(path)
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
    draft.mkdir(parents=True)
    try:
        yield draft
        shutil.rmtree(path, ignore_errors=True)
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.draft")


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
    text = _UnixLines()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class _UnixLines(io.StringIO):
    """Takes lines with "\\r\\n" at their ends and keeps them with "\\n": only so does csv quote a "\\r" in a cell."""

    def write(self, line: str) -> int:
        return super().write(line.removesuffix("\r\n") + "\n")


def write_table(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of ``table_text``."""
    write_text(path, table_text(names, rows))


def write_records(path: Path, record: type, rows: Iterable[Any]) -> None:
    """Write a table of objects of a dataclass; its fields are the columns."""
    write_table(path, [field.name for field in fields(record)], map(asdict, rows))


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, each cell as text."""
    return list(read_rows(path))


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Read the rows of a CSV file one after the other, for a table that need not be in memory as a whole."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
