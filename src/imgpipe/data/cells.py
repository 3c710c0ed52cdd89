"""Read the cells of a CSV table that somebody else wrote, and the paths in them."""

import csv
import io
import posixpath
from collections.abc import Iterator

from imgpipe.common.errors import InputError

TABLE_SUFFIX = ".csv"
"""How the name of a table ends, in small letters."""


def rows_of(content: bytes, table: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line in which a row begins, from 1, and its cells. Rows of empty cells are left out.

    content: the table's bytes: UTF-8, with a byte order mark or without, and commas between the cells.
    table: its name, for errors.

    Raises InputError where it can't be read.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{table} is not UTF-8 text, as line {line} shows; save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{table}, line {line}: the row that begins here is no CSV, {error}; mend it") from None


def path_in(cell: str) -> str:
    """Return the path that a cell names: backslashes are slashes, and detours are left out.

    >>> path_in(r" .\\cat\\1.jpg"), path_in("labels/../cat//2.jpg")
    ('cat/1.jpg', 'cat/2.jpg')
    """
    return posixpath.normpath(cell.strip().replace("\\", "/"))
