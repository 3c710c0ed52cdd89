"""What is in a folder and those below it."""

import os
from collections.abc import Iterator, Set
from pathlib import Path


def files_below(folder: Path, above: Set[str] = frozenset()) -> Iterator[Path]:
    """Files, also behind links, except hidden ones; a link back to a folder above it is not followed.

    above: the real paths of the folders that lead here.
    """
    above = above | {os.path.realpath(folder)}
    for path in folder.iterdir():
        if path.name.startswith(".") or os.path.realpath(path) in above:  # Path.resolve raises at a link to itself
            continue
        if path.is_dir():
            yield from files_below(path, above)
        elif path.is_file():
            yield path
