"""Files that a user names for results: what can't be written is said in one line, before any work."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgpipe.common.errors import InputError
from imgpipe.common.files import takes_what_comes


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise InputError where the system says, in the block, that the file or folder can't be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"'{path}' can't be written: {error.strerror or error}; name another file or make room"
        ) from None


def place_of(path: Path) -> Path:
    """Return where to write what a user names: where links lead. Makes its folder.

    Raises InputError where that takes no file.
    """
    if takes_what_comes(path):
        return path
    with writing(path):
        place = path.resolve() if path.is_symlink() else path
        if not place.parent.exists():
            place.parent.mkdir(parents=True)
        with tempfile.TemporaryFile(dir=place.parent):
            return place
