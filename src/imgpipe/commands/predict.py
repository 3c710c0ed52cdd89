"""``imgpipe predict``: say what is on images that a user names."""

import os
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.commands.answers import Answer, as_csv, as_json, as_table, readable
from imgpipe.commands.gathering import Skipped, gather_images
from imgpipe.commands.writing import place_of, writing
from imgpipe.common.errors import InputError
from imgpipe.common.files import write_text
from imgpipe.common.kernels import fix_for_network
from imgpipe.common.safe_text import printable
from imgpipe.common.wording import are, counted

GRIDS = (".png", ".svg")
MOST_AT_ONCE = 2**20
"""Images of a batch."""


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


WRITERS = {Format.TABLE: as_table, Format.CSV: as_csv, Format.JSON: as_json}


def predict(
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns such as 'photos/**/*.jpg', or - for a list of paths.")
    ],
    model: Annotated[Path, typer.Option(help="The model file.")] = Path("models/classifier.safetensors"),
    form: Annotated[Format, typer.Option("--format", help="How the answers are written.")] = Format.TABLE,
    top: Annotated[int | None, typer.Option(min=1, show_default="1", help="How many of the likeliest classes.")] = None,
    coverage: Annotated[float | None, typer.Option(help="A set that holds the true class so often: 0.50-0.99.")] = None,
    none_below_threshold: Annotated[
        bool, typer.Option("--none-below-threshold", help="No class below the model's threshold of confidence.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="A file for the answers, not standard output.")] = None,
    grid: Annotated[Path | None, typer.Option(help="A .png or .svg file for the images and their answers.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=MOST_AT_ONCE, help="Images in a batch.")] = 64,
    device: Annotated[Device, typer.Option(help="auto is cuda where there is one.")] = Device.AUTO,
) -> None:
    """Say what is on images.

    Folders are read to their depths; in a list on standard input each line is a path. What can't be read is named on
    standard error and left out, and the exit status is then 1.
    """
    output, grid = _places(output, grid)
    paths, skipped = _gather(images)

    # not on top: numpy and torch take seconds to import, and wrong arguments are refused before
    from imgpipe.model.description import read_description

    fix_for_network(read_description(model).kernels)
    from imgpipe.commands.inference import classify, ready_classifier
    from imgpipe.commands.selection import selection
    from imgpipe.common.progress import counting_where_long
    from imgpipe.data.packed import Pixels
    from imgpipe.data.parallel import cores

    if grid:  # matplotlib takes half a second more
        from imgpipe.commands.grid import draw_grid
        from imgpipe.plot.galleries import SHEET_MOST

    classifier = ready_classifier(model, device)
    description = classifier.description
    most, at_least = selection(description, top=top, coverage=coverage, none_below_threshold=none_below_threshold)
    results = classify(paths, classifier, batch_size=batch_size, threads=cores())
    answers: list[Answer] = []
    images_shown: list[Pixels] = []
    for result in counting_where_long("predicting", results, len(paths)):
        if isinstance(result, Skipped):
            skipped.append(result)
            _say(result)
        else:
            answers.append(Answer.of(result.path, result.probabilities.tolist(), description.classes, most, at_least))
            if grid and len(images_shown) < SHEET_MOST:
                images_shown.append(result.image)

    _write(WRITERS[form](answers, most), output)
    _say_empty(answers, most)
    if grid and images_shown:
        draw_grid(grid, images_shown, answers, most)
    if skipped:
        typer.echo(f"{len(skipped)} left out, {len(answers)} predicted", err=True)
        raise typer.Exit(1)


def _places(output: Path | None, grid: Path | None) -> tuple[Path | None, Path | None]:
    """Return where to write the answers and the grid. Raises InputError as ``_place_of`` does."""
    places = output and _place_of(output), grid and _place_of(grid)
    if grid and grid.suffix not in GRIDS:
        raise InputError(f"--grid is '{grid}'; its name must end in {' or '.join(GRIDS)}")
    return places


def _place_of(path: Path) -> Path:
    """Return where to write. Raises InputError where the results could not be written, before there are any."""
    with writing(path):
        if path.is_dir():
            raise InputError(f"'{path}' is a folder; name a file to write")
    return place_of(path)


def _write(text: str, output: Path | None) -> None:
    """Write the answers to a file, or else to standard output."""
    if output:
        with writing(output):
            write_text(output, text)
    else:
        typer.echo(text.encode(), nl=False)  # bytes: programs expect UTF-8, whatever the locale


def _gather(names: list[str]) -> tuple[list[str], list[Skipped]]:
    """Return ``gather_images`` and say what is left out. Raises InputError where nothing else is left."""
    paths, skipped = gather_images(names, _lines_of_standard_input())
    for one in skipped:
        _say(one)
    if not paths:
        raise InputError("no image is left to predict")
    return paths, skipped


def _lines_of_standard_input() -> Iterator[str]:
    """Yield the paths on standard input, one a line, in the bytes that the file system has."""
    for line in sys.stdin.buffer:
        path = line.rstrip(b"\r\n")
        if path:
            yield os.fsdecode(path)


def _say_empty(answers: Sequence[Answer], most: int | None) -> None:
    """Say on standard error how many sets are empty, where any is: a coverage below the model's accuracy makes them."""
    empty = sum(not answer.classes for answer in answers)
    if empty and most is None:
        typer.echo(
            f"{empty} of {counted(len(answers), 'set')} {are(empty)} empty, as so low a coverage allows; ask for more",
            err=True,
        )


def _say(skipped: Skipped) -> None:
    """Name on standard error what is left out, and why."""
    name = printable(readable(skipped.path)) or "''"
    typer.echo(f"{name}: {printable(skipped.reason)}", err=True)
