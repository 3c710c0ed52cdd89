"""Show on the terminal how far long work is."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")

LONG = 2.0
"""Seconds after which ``counting_where_long`` shows its bar."""

BETWEEN_LINES = 60.0
"""Seconds between two lines of ``steps_shown``."""


def counting(description: str, items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
    """Yield the items, counted on a bar as they are taken.

    total: how many there will be, where that is known.
    """
    count = MofNCompleteColumn() if total is not None else TextColumn("{task.completed}")
    with Progress(TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn()) as progress:
        yield from progress.track(items, total=total, description=description)


def counting_where_long(description: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """Yield the items, counted on standard error for as long as they take, if that is long; nothing stays of the bar.

    Where standard error is no terminal nothing is shown.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(description, total=total)
    shown_from = monotonic() + LONG
    try:
        for item in items:
            yield item
            progress.advance(task)
            if monotonic() > shown_from:
                progress.start()
    finally:
        progress.stop()


@contextmanager
def steps_shown(description: str, steps: int, *, done: int) -> Iterator[Callable[[str], None]]:
    """Show how many of the steps are done, for the length of the block.

    On a terminal that is a bar of which nothing stays; elsewhere, as in a file, it is a line in the log each minute.

    Yields a function to call after each step, with a text to show beside it.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[beside]}"),
    )
    console = Console(stderr=True)
    logged_at = monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task(description, total=steps, completed=done, beside="")

        def advance(beside: str) -> None:
            nonlocal done, logged_at
            done += 1
            progress.update(task, completed=done, beside=beside)
            if progress.disable and monotonic() - logged_at >= BETWEEN_LINES:
                logging.info("%s: step %d of %d, %s", description, done, steps, beside)
                logged_at = monotonic()

        yield advance
