"""Open a model file that a user names. Importing this takes no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgpipe.common.errors import InputError, one_line
from imgpipe.model.description import Description, read_description


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of reading the file within the block into an InputError that says what to do."""
    if not path.is_file():
        raise InputError(f"there is no model file '{path}'; dvc repro makes one, dvc pull brings one; or name another")
    try:
        yield
    except Exception as error:  # whatever is in the file decides what fails
        reason = one_line(error, named=not isinstance(error, InputError))
        raise InputError(
            f"'{path}' is no classifier that this imgpipe can read ({reason}); take what dvc repro leaves in models/"
        ) from None


def description_of(path: Path) -> Description:
    """Read the description in a model file. Raises InputError where it is none."""
    with explained(path):
        return read_description(path)
