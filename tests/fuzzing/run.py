"""Odd inputs for minutes: ``python tests/fuzzing/run.py archives --minutes 20``, or make fuzz KIND=archives MINUTES=20.

First come those that are odd in one known way, in an order of their own for each seed, then random ones.
"""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]

import typer  # noqa: E402
from fuzzing.fields import Table  # noqa: E402
from fuzzing.kinds import Name, input_of, keep, kind_named  # noqa: E402
from fuzzing.watched import Finding, Worker  # noqa: E402

from imgpipe.common.kernels import fix_for_images, fix_for_network  # noqa: E402

PROGRESS = 15.0
"""Seconds between two lines of progress."""


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def run(
    kind: Annotated[Name, typer.Argument(help="What the inputs are.")],
    minutes: Annotated[float, typer.Option(help="How long.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the table's order, and the first of the random inputs.")] = 0,
) -> None:
    """Give odd inputs to the code that takes such from strangers, and say what must not be: exit status 1.

    What is found is kept in tests/fuzzing/seeds.json, which the tests run again.
    """
    fix_for_images()
    fix_for_network("portable")
    tested = kind_named(kind)
    table = tested.table()
    typer.echo(f"{kind}: {len(table)} inputs of the table, then random ones, for {minutes:g} minutes from seed {seed}")
    started = said = time.monotonic()
    first: dict[str, tuple[str, Finding]] = {}
    counts: Counter[str] = Counter()
    given = 0
    with Worker(tested) as worker:
        for one in seeds(table, seed):
            if time.monotonic() > started + 60 * minutes:
                break
            found = worker.finding(input_of(tested, table, one))
            given += 1
            if found:
                place = found.place or found.what
                counts[place] += 1
                if place not in first:
                    first[place] = one, found
                    typer.echo(f"{kind}, seed {one!r}: {found.what!r} {found.place}")
            if time.monotonic() > said + PROGRESS:
                said = time.monotonic()
                typer.echo(
                    f"  {said - started:.0f} s, {given} inputs, {counts.total()} findings at {len(first)} places"
                )
    typer.echo(f"\n{given} inputs, {counts.total()} findings at {len(first)} places")
    for place, count in counts.most_common():
        one, found = first[place]
        typer.echo(f"{count:6} x {place}\n         {found.what!r}, first with seed {one!r}")
    if first:
        keep(kind, {one: without_places(found.what)[:100] for one, found in first.values()})
        raise typer.Exit(1)


def without_places(text: str) -> str:
    """The text without the folders of this machine, so that what is kept says the same everywhere."""
    for folder, shown in ((sys.prefix, ""), (str(ROOT), ""), (str(Path.home()), "~/")):
        text = text.replace(f"{folder}/", shown)
    return text


def seeds(table: Table, seed: int) -> Iterator[str]:
    """The table's names in an order of the seed, then numbers for ever."""
    names = list(table)
    Random(seed).shuffle(names)
    return itertools.chain(names, map(str, itertools.count(seed)))


if __name__ == "__main__":
    app()
