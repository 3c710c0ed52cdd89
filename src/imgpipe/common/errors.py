"""Errors: what a user can put right is an InputError; anything else is our bug and keeps its traceback."""

import difflib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from imgpipe.common.safe_text import printable

REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "make room, or see ulimit -f",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it readable and writable",
    errno.EPERM: "make it readable and writable",
    errno.EIO: "look after the disk",
    errno.EMFILE: "see ulimit -n",
}
"""What to do, by the number of an error of the system that the machine is the cause of and not the code."""


class InputError(ValueError):
    """Says that something the user gave does not fit, in one line: what, where, what was got, what to do."""


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End the process where the block raises InputError, or the machine fails: see REMEDIES.

    Then one line, with nothing that commands a terminal, goes to standard error, and the exit status is 1.
    """
    try:
        yield
    except Exception as error:
        reason = explanation(error)
        if reason is None:
            raise
        if isinstance(error, OSError) and error.filename is None:  # what is left for it would fail once more at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr.write(reason)
        raise SystemExit(1) from None


def explanation(error: Exception) -> str | None:
    """Return the line, for standard error, of what a user can put right: an InputError, or a machine that fails.

    None where it is neither, but a bug of ours, whose traceback is to be seen.
    """
    if isinstance(error, OSError):
        if error.errno not in REMEDIES:
            return None
        file = "standard output" if error.filename is None else f"'{error.filename}'"
        reason = f"{file} can't be read or written: {error.strerror}; {REMEDIES[error.errno]}"
    elif isinstance(error, InputError):
        reason = str(error)
    else:
        return None
    return f"error: {printable(reason)}\n"


def one_line(error: BaseException, *, named: bool = False) -> str:
    """Return the message of an exception on one line, or its type where it has none.

    named: whether the type stands before the message, which says little without it in other people's errors.
    """
    text = " ".join(str(error).split())
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text}" if named else text


def did_you_mean(value: Any, known: Iterable[Any]) -> str:
    """Return a question that names what is most like the value, to end an error with; nothing where none is near.

    >>> did_you_mean("resnet81", ["resnet18", "vgg16"])
    '; did you mean resnet18?'
    """
    near = difflib.get_close_matches(str(value), [str(name) for name in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def without_secrets(address: str) -> str:
    """Return an address without what may be a password or a token: user, query and fragment. A path stays as it is.

    Where a password may have been taken for something else, as one with a slash in it is, only the scheme is left.

    >>> without_secrets("https://me:secret@example.org:8080/a/pets.zip?token=1#x")
    'https://example.org:8080/a/pets.zip'
    >>> without_secrets("/home/me/images#1")
    '/home/me/images#1'
    """
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        clear = "@" not in parts.path and (parts.port is None or parts.port >= 0)  # ValueError where it is no number
    except ValueError:
        clear = False
    if not clear:
        return f"{address.partition('://')[0]}://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
