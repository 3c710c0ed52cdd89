"""An archive of pictures to ImageFolder splits, and a table of every picture."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from imgpipe.archives import pictures, write_tar
from imgpipe.errors import InputError
from imgpipe.pictures import open_picture
from imgpipe.splits import assign, label_and_split


@dataclass(frozen=True)
class Picture:
    """A row of the table. ``file`` is ``<split>/<class>/<name>``; width and height are in pixels, upright."""

    file: str
    split: str
    label: str
    source: str
    width: int
    height: int
    sha256: str


def prepare(
    archive: Path,
    folder: Path,
    write: Callable[[Path, Mapping[str, Path]], None],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> list[Picture]:
    """Puts each picture of the archive, byte for byte, into its split below the folder; the table, by file.

    write: one of FORMATS. Neither the splits nor the table depend on the order of the archive.

    Raises InputError for a picture that can't be read, for two of one name in a class, and where a class is too small.
    """
    unsorted = folder / "unsorted"
    unsorted.mkdir()
    found = []
    for number, (source, content) in enumerate(pictures(archive)):
        size = open_picture(content, f"{archive}: {source}").size
        (unsorted / str(number)).write_bytes(content)
        found.append((source, number, size, hashlib.sha256(content).hexdigest()))
    if not found:
        raise InputError(f"{archive} holds no pictures; point params.yaml: download.location at some")

    found.sort()
    labels, given = zip(*(label_and_split(source) for source, *_ in found), strict=True)
    splits = assign(labels, given, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)

    table: dict[str, Picture] = {}
    contents: dict[str, Path] = {}
    for (source, number, size, sha256), label, split in zip(found, labels, splits, strict=True):
        file = f"{split}/{label}/{source.name}"
        if file in table:
            raise InputError(f"{archive}: '{table[file].source}' and '{source}' would both be {file}; rename one")
        table[file] = Picture(file, split, label, str(source), *size, sha256)
        contents[file] = unsorted / str(number)
    write(folder, {file: contents[file] for file in sorted(contents)})
    shutil.rmtree(unsorted)
    return [table[file] for file in sorted(table)]


def write_tree(folder: Path, contents: Mapping[str, Path]) -> None:
    """A file for each picture, ``<split>/<class>/<name>``: easy to browse, slow for DVC where there are thousands."""
    for file, content in contents.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        content.rename(folder / file)


def write_tars(folder: Path, contents: Mapping[str, Path]) -> None:
    """A tar for each split, ``<split>.tar``, with ``<class>/<name>`` in it."""
    for split, files in groupby(contents, key=lambda file: file.partition("/")[0]):
        write_tar(folder / f"{split}.tar", ((file.partition("/")[2], contents[file].read_bytes()) for file in files))


FORMATS = {"tree": write_tree, "tar": write_tars}
