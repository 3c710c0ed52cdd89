"""Errors: what a user can put right is an InputError; anything else is our bug and keeps its traceback."""

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class InputError(ValueError):
    """Says that something the user gave does not fit, in one line: what, where, what was got, what to do."""


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End the process where the block raises InputError: with one line on standard error and exit status 1."""
    try:
        yield
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(1) from None


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
