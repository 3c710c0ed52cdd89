"""What long work shows of itself on the terminal."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")


def counting(description: str, items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
    """The items, counted on a bar as they are taken; ``total``: how many there will be, where that is known."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        yield from progress.track(items, total=total, description=description)


@contextmanager
def steps_bar(description: str, steps: int, *, shown: bool) -> Iterator[Callable[[str | None], None]]:
    """A bar of so many steps; call what it yields after each, with a text to show beside the bar or None to keep it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[beside]}"),
    )
    with Progress(*columns, disable=not shown) as progress:
        task = progress.add_task(description, total=steps, beside="")

        def advance(beside: str | None) -> None:
            if beside is not None:
                progress.update(task, beside=beside)
            progress.advance(task)

        yield advance
