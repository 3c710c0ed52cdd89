"""Files that a user names for results: what can't be written is said in one line, before any work."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgpipe.common.errors import InputError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise InputError where the system says, in the block, that the file or folder can't be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"'{path}' can't be written: {error.strerror or error}; name another file or make room"
        ) from None


def check_folder_of(path: Path) -> None:
    """Make the folder that shall hold the file or folder, and raise InputError where it takes none."""
    with writing(path):
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
