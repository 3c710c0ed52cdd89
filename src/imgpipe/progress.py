"""The bar that a training epoch shows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
