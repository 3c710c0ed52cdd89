"""Small archives of cats and dogs, read and sorted into splits."""

from pathlib import Path
from typing import Any

from samples import encoded, noise

from imgpipe.prepare.params import Columns, Prepare
from imgpipe.prepare.prepare import Duplicate, PreparedImage, prepare_images
from imgpipe.prepare.reading import Found, Rejected, read_archive
from imgpipe.prepare.tables import read_tables

SPLIT_PETS = {
    f"{split}/{kind}/{split}{i}.png": encoded(noise(100 * n + 10 * m + i))
    for n, split in enumerate(("train", "val", "test"))
    for m, kind in enumerate(("cat", "dog"))
    for i in range(4)
}
"""Four images of each in each of three given splits."""
ANOTHER = encoded(noise(999))
"""An image that is none of these."""


def pets(count: int = 10) -> dict[str, bytes]:
    """So many images of cats and as many of dogs, each another."""
    return {
        f"pets/{kind}/{i}.png": encoded(noise(100 * number + i))
        for number, kind in enumerate(("cat", "dog"))
        for i in range(count)
    }


def read(path: Path, processes: int = 1) -> tuple[list[Found], list[Rejected]]:
    return read_archive(path, path.with_suffix(".spool"), pattern="auto", tables=None, processes=processes)


def sort_in(found: list[Found], **changes: Any) -> tuple[list[PreparedImage], list[Duplicate]]:
    """``prepare_images`` with a fifth of the images for each of val and test, but for the changes."""
    section: dict[str, Any] = {
        "pattern": "auto",
        "table": None,
        "columns": Columns(file="file", label="label", split=None, group=None),
        "class_names": None,
        "class_map": None,
        "split": "stratified",
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "folds": None,
        "fold": 0,
        "seed": 0,
        "duplicates": "drop",
        "near_duplicates": "report",
        "near_correlation": 0.97,
        "max_rejected": 0.0,
        "format": "tar",
    }
    return prepare_images(found, Prepare(**{**section, **changes}))


def labelled(path: Path, table: str, columns: Columns) -> tuple[list[Found], list[Rejected]]:
    """The images of an archive whose table of this name says what they are."""
    tables = read_tables(path, table, columns)
    return read_archive(path, path.with_suffix(".spool"), pattern="auto", tables=tables, processes=1)
