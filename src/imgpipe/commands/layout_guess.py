"""Guess what says the class of each image: its folder, its name, or a table."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from imgpipe.common.errors import InputError
from imgpipe.data.archives import SPLIT_OF_FOLDER, names_an_image
from imgpipe.prepare.layouts import PathParts, read_path

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

FILE_COLUMNS = ("file", "file_name", "filename", "image", "image_id", "path", "img")
LABEL_COLUMNS = ("label", "class", "category", "target", "species", "diagnosis", "breed", "label_name", "class_name")
SPLIT_COLUMNS = ("split", "subset", "set", "fold_name", "partition")
GROUP_COLUMNS = (
    "group",
    "patient",
    "patient_id",
    "subject",
    "subject_id",
    "person",
    "person_id",
    "case",
    "case_id",
    "site",
)
"""Usual names of a table's columns, in small letters, the likeliest first."""


@dataclass(frozen=True)
class Layout:
    """What says each image's class, split and group, and what it says."""

    says: str
    """In words, to stand after "12 images in 3 classes, "."""
    parts: dict[str, PathParts]
    """By the path of the image."""
    values: dict[str, object] = field(default_factory=dict)
    """The keys of the section prepare that describe it, with their values."""


def guess_layout(names: Sequence[str], tables: Mapping[str, bytes], *, only: str | None) -> Layout:
    """Guess the layout of images.

    names: their paths.
    tables: the CSV files beside them, by path.
    only: the table that must say it, if a user named one.

    Raises InputError where nothing names classes.
    """
    for layout in (_by_table(names, tables, only), *(() if only else (_by_folder(names), *_by_name(names)))):
        if layout is not None:
            return layout
    where = (
        f"no column of {only} names the images beside it"
        if only
        else "neither folders nor file names tell classes apart"
    )
    raise InputError(
        f"{where}; sort the images into a folder for each class, or write prepare.pattern or prepare.table into "
        "params.yaml yourself (docs/images.md)"
    )


def _by_folder(names: Sequence[str]) -> Layout | None:
    parts = _read(names, "auto")
    if not _plausible(parts, names):
        return None
    splits = {part.split for part in parts.values()} - {""}
    within = f", within folders for {', '.join(sorted(splits))}" if splits else ""
    return Layout(f"in a folder for each class{within}", parts, {"pattern": "auto", "table": None})


def _by_name(names: Sequence[str]) -> list[Layout]:
    found = []
    for words, pattern in PATTERNS.items():
        parts = _read(names, pattern)
        if _plausible(parts, names):
            found.append(Layout(f"named by {words}", parts, {"pattern": pattern, "table": None}))
    return found


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
