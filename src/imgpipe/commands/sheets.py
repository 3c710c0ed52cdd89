"""A contact sheet: images side by side, each with what the model says of it."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from imgpipe.data.packed import Pixels

MOST = 100
"""Images that one sheet shows."""
LABEL, NAME = 13, 20
"""Characters of a class and of a file's name that fit above and below an image."""


def contact_sheet(squares: Sequence[Pixels], answers: Sequence[tuple[str, float]], names: Sequence[str]) -> Figure:
    """The images in rows, as the network saw them, class and confidence above and the file's name below each.

    squares: uint8 (size, size, channels), at most MOST. answers: a class and its probability for each.
    """
    assert 0 < len(squares) <= MOST
    across = min(len(squares), max(3, math.ceil(math.sqrt(len(squares) * 1.5))))
    down = math.ceil(len(squares) / across)
    figure = Figure(figsize=(1.4 * max(across, 2), 1.75 * down), layout="constrained")
    every_axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for axes in every_axes:
        axes.set_axis_off()
    for axes, square, (answer, sure), name in zip(every_axes, squares, answers, names, strict=False):
        grey = square.shape[2] == 1
        # 0 to 255 is said, or matplotlib would stretch the levels of a grey image to black and white
        axes.imshow(square[:, :, 0] if grey else square, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{_shortened(answer, LABEL)} ({sure:.0%})", fontsize=8, pad=3)
        axes.text(
            0.5, -0.03, _shortened(name, NAME), transform=axes.transAxes, fontsize=6, color="0.4", ha="center", va="top"
        )
    return figure


def _shortened(text: str, most: int) -> str:
    """The text, or its ends where it is longer than so many characters.

    >>> _shortened("0123456789.jpg", 9)
    '0123….jpg'
    """
    end = most // 2
    return text if len(text) <= most else f"{text[: most - end - 1]}…{text[-end:]}"
