"""Signals that ask a process to end: kept until the work is saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(SystemExit):
    """Ends the process as the signal would have: exit status 143 for SIGTERM, 130 for SIGINT."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@contextmanager
def deferred_signals() -> Iterator[Callable[[], int]]:
    """A function that gives the number of the first of these signals that came, 0 before one did."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
