"""Guess what says the class of each image: its folder, its name, or a table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from imgpipe.common.errors import InputError
from imgpipe.data.archives import SPLIT_OF_FOLDER, Member
from imgpipe.data.cells import path_in, rows_of
from imgpipe.prepare.layouts import PathParts, read_path
from imgpipe.prepare.params import Columns
from imgpipe.prepare.tables import joined_tables

MOST_MISSED = 0.01
"""Share of the images for which a layout may find no class."""
LEAST_PER_CLASS = 3
"""Images that the classes of a layout have at least on average."""

_SPLIT = rf"(?:(?:^|/)(?P<split>(?i:{'|'.join(SPLIT_OF_FOLDER)}))/(?:.*/)?|^|/)"
PATTERNS = {
    "the word before the number in their file names": _SPLIT + r"(?P<label>[^/]*[^\W\d_])[ _.()-]*\d+[ )]*\.[^/.]+$",
    "what stands before the first _ or - in their file names": _SPLIT + r"(?P<label>[^/_-]+)[_-][^/]*$",
    "the word after the number in their file names": _SPLIT + r"\d+[ _.-]+(?P<label>[^/]*[^\W\d_])\.[^/.]+$",
}
"""What may name the class where no folder does: in words, and as a value of prepare.pattern."""

LABEL_COLUMNS = ("label", "class", "category", "target", "species", "diagnosis", "breed", "label_name", "class_name")
GROUP_COLUMNS = ("group", "group_id", "patient", "patient_id", "subject", "subject_id", "person", "person_id", "case")
"""Usual names of a table's columns, in small letters, the likeliest first."""
MOST_ROWS = 1000
"""Rows of a table from which its columns are guessed."""


@dataclass(frozen=True)
class Layout:
    """What says each image's class, split and group, and what it says."""

    says: str
    """In words, to stand after "12 images in 3 classes, told apart "."""
    parts: dict[str, PathParts]
    """By the path of the image."""
    values: dict[str, Any]
    """The keys within prepare that describe it, with their values."""


def guess_layout(names: Sequence[str], tables: Sequence[Member], *, only: str | None) -> Layout:
    """Guess the layout of images.

    names: their paths.
    tables: the CSV files beside them.
    only: the table that must say it, where a user named one.

    Raises InputError where nothing tells classes apart, and for a table that contradicts itself or the files.
    """
    if (by_table := _by_table(names, tables, only)) or only:
        if by_table is None:
            raise InputError(
                f"{only} has no column that names the images in its folder and another of their classes; it must have "
                "their paths, from the table's folder, and a label for each"
            )
        return by_table
    if by_folder := _by_folder(names):
        return by_folder
    if by_name := _by_name(names):
        return by_name
    raise InputError(
        "neither folders nor file names nor a table tell classes apart; sort the images into a folder for each class, "
        "or write prepare.pattern or prepare.table into params.yaml yourself (docs/images.md)"
    )


def _by_table(names: Sequence[str], tables: Sequence[Member], only: str | None) -> Layout | None:
    """Return what the tables of one name say, of the first that names images and their classes."""
    for name in [only] if only else dict.fromkeys(PurePosixPath(table.name).name for table in tables):
        alike = [table for table in tables if PurePosixPath(table.name).name == name]
        columns = _columns(names, alike[0]) if alike else None
        if columns is None:
            continue
        joined = joined_tables(str(name), alike, names, columns, where="the folder or archive")
        parts = {source: row.named for source, row in joined.rows.items()}
        kept = f"; its columns {', '.join(joined.columns)} are kept" if joined.columns else ""
        values = {f"columns.{key}": column for key, column in asdict(columns).items()}
        return Layout(f"by the column '{columns.label}' of {name}{kept}", parts, {"table": name, **values})
    return None


def _columns(names: Sequence[str], table: Member) -> Columns | None:
    """Guess which columns of a table name the images, their classes, and perhaps their splits and groups."""
    rows = [cells for _, cells in rows_of(table.content or b"", table.name)]
    header = [column.strip() for column in rows[0]] if rows else []
    body = [cells for cells in rows[1 : 1 + MOST_ROWS] if len(cells) == len(header)]  # the others are refused later
    if not body:
        return None
    columns = {name: [cells[i].strip() for cells in body] for i, name in enumerate(header) if name}
    ends = {PurePosixPath(name).name for name in names}
    files = [
        name for name, cells in columns.items() if _share(PurePosixPath(path_in(c)).name in ends for c in cells) > 0.5
    ]
    if not files:
        return None
    others = [name for name in columns if name != files[0]]
    splits = [name for name in others if _share(cell.lower() in SPLIT_OF_FOLDER for cell in columns[name]) == 1]
    groups = [name for usual in GROUP_COLUMNS for name in others if name.lower() == usual]
    rest = [name for name in others if name not in splits and name not in groups]
    labels = [name for usual in LABEL_COLUMNS for name in rest if name.lower() == usual]
    labels += [name for name in rest if 2 <= len(set(columns[name])) <= len(body) / LEAST_PER_CLASS]
    if not labels:
        return None
    return Columns(files[0], labels[0], splits[0] if splits else None, groups[0] if groups else None)


def _share(facts: Iterable[bool]) -> float:
    """Return how many of the facts are true, as a share."""
    true = list(facts)
    return sum(true) / len(true)


def _by_folder(names: Sequence[str]) -> Layout | None:
    parts = _read(names, "auto")
    if not _plausible(parts, names):
        return None
    splits = {part.split for part in parts.values()} - {""}
    within = f", within folders for {', '.join(sorted(splits))}" if splits else ""
    return Layout(f"by a folder for each class{within}", parts, {"pattern": "auto", "table": None})


def _by_name(names: Sequence[str]) -> Layout | None:
    for words, pattern in PATTERNS.items():
        parts = _read(names, pattern)
        if _plausible(parts, names):
            return Layout(f"by {words}", parts, {"pattern": pattern, "table": None})
    return None


def _read(names: Sequence[str], pattern: str) -> dict[str, PathParts]:
    """Return what a pattern says of the paths of which it says anything."""
    parts = {}
    for name in names:
        try:
            parts[name] = read_path(name, pattern)
        except InputError:
            continue
    return parts


def _plausible(parts: Mapping[str, PathParts], names: Sequence[str]) -> bool:
    """Return whether nearly all images have a class, of which there are several with several images."""
    classes = Counter(part.label for part in parts.values())
    enough = len(parts) >= (1 - MOST_MISSED) * len(names)
    return enough and len(classes) >= 2 and len(parts) >= LEAST_PER_CLASS * len(classes)
