"""Store prepared images: a file for each, or a tar for each split.

To add a format: a function here, and a line in FORMATS.
"""

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

from imgpipe.data.archives import write_tar


def write_tree(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write each file to ``<split>/<class>/<name>``: easy to browse, slow for DVC where there are thousands.

    files: such a name, and the file's bytes.
    """
    for file, content in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def write_tars(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar for each split, ``<split>.tar``, with ``<class>/<name>`` in it.

    files: ``<split>/<class>/<name>`` and the file's bytes, sorted by name.
    """
    for split, members in groupby(files, key=lambda file: file[0].partition("/")[0]):
        write_tar(folder / f"{split}.tar", ((file.partition("/")[2], content) for file, content in members))


FORMATS: dict[str, Callable[[Path, Iterable[tuple[str, bytes]]], None]] = {"tree": write_tree, "tar": write_tars}
