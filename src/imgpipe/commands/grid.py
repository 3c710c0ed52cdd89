"""Draw the images that a model saw, each with its answer: ``imgpipe predict --grid``."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import typer

from imgpipe.commands.answers import Answer, nothing, readable
from imgpipe.commands.writing import writing
from imgpipe.common.safe_text import printable
from imgpipe.data.packed import Pixels
from imgpipe.plot import drawing
from imgpipe.plot.galleries import contact_sheet

DPI = 150


def draw_grid(path: Path, images: Sequence[Pixels], answers: Sequence[Answer], top: int | None) -> None:
    """Draw images with their likeliest class and its confidence; of sets with the number of the other classes, too.

    path: the file to write, whose ending says in which format.
    images: what the network saw, uint8 (size, size, channels) each.
    answers: one for each image, and for further ones that there is no room for, which is said on standard error.
    top: None where the answers are sets.
    """
    drawn = answers[: len(images)]
    classes = [[(printable(name), sure) for name, sure in answer.classes[: 1 if top else None]] for answer in drawn]
    names = [printable(readable(Path(answer.file).name)) for answer in drawn]
    with writing(path), drawing.house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a character without one is drawn as a box
        drawing.save(contact_sheet(images, classes, names, nothing(top)), path, dpi=DPI)
    if len(drawn) < len(answers):
        typer.echo(f"{path} shows the first {len(drawn)} of {len(answers)} images", err=True)
