"""Draw the images that a model saw, each with its answer: ``imgpipe predict --grid``."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from imgpipe.commands.answers import Answer, printable, readable
from imgpipe.data.packed import Pixels
from imgpipe.plot import drawing
from imgpipe.plot.galleries import contact_sheet

DPI = 150


def draw_grid(path: Path, images: Sequence[Pixels], answers: Sequence[Answer]) -> None:
    """Draw images with their likeliest class and its confidence.

    path: the file to write, whose ending says in which format.
    images: what the network saw, uint8 (size, size, channels) each.
    answers: one for each image.
    """
    likeliest = [(printable(name), confidence) for name, confidence in (answer.classes[0] for answer in answers)]
    names = [printable(readable(Path(answer.file).name)) for answer in answers]
    with drawing.house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a character without one is drawn as a box
        drawing.save(contact_sheet(images, likeliest, names), path, dpi=DPI)
