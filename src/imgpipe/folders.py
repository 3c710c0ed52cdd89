"""What is in a folder and those below it."""

from collections.abc import Iterator, Set
from pathlib import Path


def files_below(folder: Path, above: Set[Path] = frozenset()) -> Iterator[Path]:
    """Files, also behind links, except hidden ones; a link back to a folder above it is not followed.

    above: the folders that lead here, resolved.
    """
    above = above | {folder.resolve()}
    for path in folder.iterdir():
        if path.name.startswith(".") or path.resolve() in above:
            continue
        if path.is_dir():
            yield from files_below(path, above)
        elif path.is_file():
            yield path
