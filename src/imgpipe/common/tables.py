"""CSV files: a header, then a row for each record; "\\n" at the ends of lines, so that equal tables are equal bytes."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from imgpipe.common.files import write_text


def columns(record: type) -> list[str]:
    """The names of a dataclass's fields."""
    return [field.name for field in fields(record)]


def table_text(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows under the names of their columns; a float with as many digits as give the same float again."""
    text = _UnixLines()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class _UnixLines(io.StringIO):
    """Lines come with "\\r\\n" at their ends and are kept with "\\n": only so does csv quote a "\\r" in a cell."""

    def write(self, line: str) -> int:
        return super().write(line.removesuffix("\r\n") + "\n")


def write_table(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A file of ``table_text``."""
    write_text(path, table_text(names, rows))


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows, each cell as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
