"""What is in a folder: its files, by links too, and what is none; pipes and the like are never opened."""

import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from imgpipe.common.errors import InputError
from imgpipe.data.archives import LARGEST

NO_FILE = "it is no file but a pipe, a socket or a device"


def files_below(folder: Path, *, outside: bool) -> Iterator[tuple[Path, str]]:
    """Yield each path in a folder and below it, except hidden ones, and why it is not read; nothing where it is a file.

    Links are followed. Each real folder is read once: where it stands, not where a link to it does.

    outside: whether links that lead out of the folder are followed, too.

    Raises InputError at such a link where they are not, and OSError where a folder can't be read.
    """
    read: set[tuple[int, int]] = set()
    folders, links = [folder], deque[Path]()
    while folders or links:
        within = folders.pop() if folders else links.popleft()
        real = within.stat()
        if (real.st_dev, real.st_ino) in read:
            continue
        read.add((real.st_dev, real.st_ino))
        with os.scandir(within) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
        for entry in sorted(shown, key=lambda entry: entry.name):
            path, link = within / entry.name, entry.is_symlink()
            if link and not outside:
                check_within(path, folder)
            try:
                mode = path.stat().st_mode
            except OSError as error:
                if link:
                    yield path, "it is a link to nothing"
                elif not isinstance(error, FileNotFoundError):  # that one was removed just now
                    raise
                continue
            if stat.S_ISDIR(mode):
                (links if link else folders).append(path)
            else:
                yield path, "" if stat.S_ISREG(mode) else NO_FILE


def check_within(path: Path, folder: Path) -> None:
    """Refuse a path in a folder that links lead out of it."""
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(folder)):
        raise InputError(f"'{path}' is a link out of the folder, to '{real}'; put a copy in its place")


def content_of(path: Path) -> bytes:
    """Return a file's bytes. Raises InputError with the reason where they are too many, and OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise InputError(f"its {size:,} bytes are more than the {LARGEST:,} that are read")
        return file.read(LARGEST)  # of a pipe, whose size is said to be 0
