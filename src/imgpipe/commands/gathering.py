"""Gather the images that a user names: files, folders, patterns and lists."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgpipe.common.errors import InputError
from imgpipe.data.archives import IMAGE_SUFFIXES, is_image_file, names_an_image
from imgpipe.data.folders import NO_FILE, files_below


@dataclass(frozen=True)
class Skipped:
    """A path that gives no image, and why."""

    path: str
    reason: str


def gather_images(names: Iterable[str], listed: Iterable[str]) -> tuple[list[str], list[Skipped]]:
    """Return the paths of images, each once and where it was named first, and the names that give none.

    names: files, taken whatever their endings; folders, read to their depths for files that are images by their
        endings or else their first bytes, except hidden ones; patterns with ``*``, ``?``, ``[...]`` and ``**``, in
        place of which stand the files and folders that they match; and ``-`` for those in ``listed``. A folder and a
        pattern give paths in alphabetical order.
    listed: files and folders, no patterns.
    """
    found: dict[str, str] = {}
    skipped: list[Skipped] = []
    for name, is_pattern in _with_listed(names, listed):
        matches = _matches(name) if is_pattern else [name]
        if not matches:
            skipped.append(Skipped(name, "nothing matches this pattern"))
        for match in matches:
            try:
                for path in _images(match, skipped):
                    found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 (a Path would drop the ./ of a name)
            except InputError as error:
                skipped.append(Skipped(match, str(error)))
    return list(found.values()), skipped


def _with_listed(names: Iterable[str], listed: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield each name, and whether it is a pattern: a file may have a name that looks like one."""
    for name in names:
        if name == "-":
            yield from ((line, False) for line in listed)
        else:
            yield name, glob.has_magic(name) and not os.path.exists(name)  # noqa: PTH110 (a Path raises for long names)


def _matches(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True), key=Path)  # noqa: PTH207 (keeps the paths as they are named)


def _images(name: str, skipped: list[Skipped]) -> Sequence[str]:
    """Return the name itself, or the images in the folder of that name. Raises InputError where there is none.

    skipped: gets what is named in the folder as images are and is none.
    """
    path = Path(name)
    try:
        if not name or not path.exists():
            raise InputError("there is no such file or folder")
        if path.is_file():
            return [name]
        if not path.is_dir():
            raise InputError(NO_FILE)
    except OSError as error:
        raise InputError(f"it can't be read: {error.strerror}") from None
    try:
        below = sorted(files_below(path, outside=True))
    except OSError as error:
        raise InputError(f"the folder can't be read: {error.strerror}") from None
    skipped += [Skipped(str(file), why) for file, why in below if why and names_an_image(file.name)]
    images = [str(file) for file, why in below if not why and _may_be_image(file)]
    if not images:
        raise InputError(
            f"the folder holds no images; their names end in {', '.join(IMAGE_SUFFIXES)}, or their first bytes tell"
        )
    return images


def _may_be_image(file: Path) -> bool:
    """Tell whether it is an image by its name or content, or can't be read, which is then said of it."""
    try:
        return is_image_file(file)
    except OSError:
        return True
