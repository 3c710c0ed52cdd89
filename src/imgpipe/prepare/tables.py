"""Read the tables of an archive that say what its images are: class, split and group, and anything else."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath

from imgpipe.common.errors import InputError, did_you_mean
from imgpipe.common.rules import one_of
from imgpipe.common.wording import are, counted
from imgpipe.data.archives import SPLIT_OF_FOLDER, Member, members
from imgpipe.data.cells import TABLE_SUFFIX, path_in, rows_of
from imgpipe.prepare.layouts import PathParts, split_of_folders
from imgpipe.prepare.params import Columns

OF_IMAGES = "file"
"""The column of data/slices.csv that names an image as data/images.csv does."""


@dataclass(frozen=True)
class Row:
    """What a table says of an image."""

    named: PathParts
    """In place of what its path would say."""
    other: dict[str, str]
    """The cells of the table's other columns, by column."""
    place: str
    """The table and the line, for errors."""


@dataclass(frozen=True)
class Tables:
    """All tables of one name in an archive."""

    name: str
    """As params.yaml: prepare.table has it."""
    rows: Mapping[str, Row]
    """By the image's path in the archive."""
    columns: Sequence[str]
    """Names of all other columns, of whichever table, each once."""

    def holds(self, source: str) -> bool:
        """Return whether the file of this path in the archive is one of the tables."""
        return is_table(source, self.name)

    def named(self, source: str) -> PathParts | None:
        """Return what the tables say of the image of this path in the archive; nothing where none names it."""
        row = self.rows.get(source)
        return row.named if row else None


def is_table(source: str, name: str) -> bool:
    """Return whether a path in the archive is that of a table of this name: the same path, or the same last part."""
    path = PurePosixPath(source)
    return path == PurePosixPath(name) or path.name == name


def read_tables(archive: Path, name: str, columns: Columns) -> Tables:
    """Return what the tables of this name in an archive say.

    columns: names of the columns that say what an image is.

    Raises InputError where there is no such table, and as ``joined_tables`` does.
    """
    names: list[str] = []
    found: dict[str, Member] = {}
    for member in members(archive, wanted=lambda path: is_table(path, name)):
        if is_table(member.shown, name) and found.setdefault(member.shown, member) is not member:
            raise InputError(f"{archive} holds two files of the name '{member.shown}'; make the archive anew")
        names.append(member.shown)
    if not found:
        raise _not_there(archive, name, names)
    return joined_tables(name, list(found.values()), names, columns, where=archive.name)


def joined_tables(name: str, tables: Iterable[Member], names: Iterable[str], columns: Columns, *, where: str) -> Tables:
    """Return what several tables say together.

    A table's paths are from its own folder, or else from one above it, up to the top.

    name: as params.yaml: prepare.table has it.
    names: paths of all files beside the tables.
    columns: names of the columns that say what an image is.
    where: what holds the files, for errors.

    Raises InputError where a table can't be read, lacks a column, names files that are not there, contradicts itself or
    another, or has a cell that means nothing.
    """
    sources = {PurePosixPath(file.replace("\\", "/")).as_posix(): file for file in names}
    rows: dict[str, Row] = {}
    others: dict[str, None] = {}  # in order
    in_order = sorted(tables, key=lambda table: table.shown)
    for table in in_order:
        header, table_rows = _parsed(table, columns)
        other = _other_columns(table.shown, header, columns)
        others |= dict.fromkeys(other)
        missing: list[tuple[int, str]] = []
        for line, cells in table_rows:
            source = _source(cells[columns.file], table.shown, sources)
            row = _row(cells, f"{table.shown}, line {line}", source or "", columns, other)
            if source is None:
                missing.append((line, cells[columns.file]))
            else:
                rows[source] = _agreeing(rows[source], row, source) if source in rows else row
        if missing:
            line, cell = missing[0]
            raise InputError(
                f"{table.shown} names {counted(len(missing), 'file')} that {are(len(missing))} not in {where}, first "
                f"in line {line}: '{cell}'; paths in it must be from its own folder or one above it"
            )
    if not rows:
        raise InputError(f"{in_order[0].shown} names no file; it must have a row for each image")
    return Tables(name, rows, list(others))


def _other_columns(table: str, header: Iterable[str], columns: Columns) -> list[str]:
    """Return the names of the columns that say nothing of what an image is. Those without a name are left out."""
    other = [column for column in header if column and column not in astuple(columns)]
    if OF_IMAGES in other:
        raise InputError(
            f"{table} has a column '{OF_IMAGES}' that is not prepare.columns.file, and data/slices.csv has one of that "
            "name; rename it"
        )
    return other


def _not_there(archive: Path, name: str, names: Iterable[str]) -> InputError:
    tables = sorted(path for path in names if path.lower().endswith(TABLE_SUFFIX))
    has = f"its tables are {one_of(tables)}" if tables else "it has no .csv file"
    return InputError(
        f"params.yaml: prepare.table is '{name}', which is not in {archive.name}; {has}{did_you_mean(name, tables)}"
    )


def _parsed(table: Member, columns: Columns) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the header of a table and, of each of its rows, the line and the cells by column."""
    if table.content is None:
        raise InputError(f"{table.shown} can't be read: {table.problem}; put that right")
    rows = rows_of(table.content, table.shown)
    header = [column.strip() for column in next(rows, (1, []))[1]]
    for column in header:
        if column and header.count(column) > 1:
            raise InputError(f"{table.shown} has {header.count(column)} columns of the name '{column}'; rename one")
    for key, column in vars(columns).items():
        if column is not None and column not in header:
            raise InputError(
                f"params.yaml: prepare.columns.{key} is '{column}', a column that {table.shown} lacks; "
                f"it has {', '.join(filter(None, header)) or 'none'}{did_you_mean(column, header)}"
            )
    return header, _by_column(rows, header, table.shown)


def _by_column(
    rows: Iterable[tuple[int, list[str]]], header: Sequence[str], table: str
) -> Iterator[tuple[int, dict[str, str]]]:
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(
                f"{table}, line {line}: it has {counted(len(cells), 'cell')}, and the header {len(header)}; make them "
                "as many (a cell with a comma in it stands in quotes)"
            )
        yield line, dict(zip(header, cells, strict=True))


def _source(cell: str, table: str, sources: Mapping[str, str]) -> str | None:
    """Return the path in the archive of the file that a cell names; None where there is none.

    sources: these paths by themselves without detours.
    """
    paths = (path_in(f"{folder}/{cell.strip()}") for folder in PurePosixPath(table).parents)
    return next((sources[path] for path in paths if path in sources), None)


def _row(cells: Mapping[str, str], place: str, source: str, columns: Columns, other: Sequence[str]) -> Row:
    """Return what a row says, given its cells by column."""
    for key, column in {"file": columns.file, "label": columns.label}.items():
        if not cells[column].strip():
            raise InputError(f"{place}: its {key} (column '{column}') is empty; fill it in or take the row out")
    group = cells[columns.group].strip() if columns.group else ""
    split = split_of_folders(source) if columns.split is None else _split(cells[columns.split], place)
    return Row(PathParts(cells[columns.label].strip(), split, group), {key: cells[key] for key in other}, place)


def _split(cell: str, place: str) -> str:
    word = cell.strip().lower()
    if word and word not in SPLIT_OF_FOLDER:
        raise InputError(
            f"{place}: its split is '{cell.strip()}'; it must be {one_of(SPLIT_OF_FOLDER)}, or empty"
            f"{did_you_mean(word, SPLIT_OF_FOLDER)}"
        )
    return SPLIT_OF_FOLDER.get(word, "")


def _agreeing(one: Row, other: Row, source: str) -> Row:
    """Return what two rows of an image say together. Raises InputError where they contradict each other."""
    for said, its in ((vars(one.named), vars(other.named)), (one.other, other.other)):
        for key in said:
            if key in its and said[key] != its[key]:
                raise InputError(
                    f"'{source}' has the {key} '{said[key]}' in {one.place}, and '{its[key]}' in {other.place}; "
                    "make them agree"
                )
    return Row(one.named, one.other | other.other, one.place)


def slices(images: Mapping[str, str], tables: Tables | None) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the columns of data/slices.csv, and its rows: all else that the tables say of the images.

    images: each prepared image's file, and its path in the archive.
    """
    if tables is None or not tables.columns:
        return [OF_IMAGES], []
    empty = dict.fromkeys(tables.columns, "")
    rows = [{OF_IMAGES: file, **empty, **tables.rows[source].other} for file, source in images.items()]
    return [OF_IMAGES, *tables.columns], rows
