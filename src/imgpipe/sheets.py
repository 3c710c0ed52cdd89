"""A contact sheet: pictures side by side, each with what the model says of it."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from imgpipe.packed import Pixels

MOST = 100
"""Pictures that one sheet shows."""
SHORT = 20
"""Characters of a file's name that fit under a picture."""


def contact_sheet(squares: Sequence[Pixels], labels: Sequence[str], names: Sequence[str]) -> Figure:
    """The pictures in rows, as the network saw them, a label above and the file's name below each.

    squares: uint8 (size, size, channels), at most MOST.
    """
    assert 0 < len(squares) <= MOST
    across = min(len(squares), max(3, math.ceil(math.sqrt(len(squares) * 1.5))))
    down = math.ceil(len(squares) / across)
    figure = Figure(figsize=(1.7 * max(across, 2), 2.0 * down), layout="constrained")
    every_axes = figure.subplots(down, across, squeeze=False).flat
    for axes in every_axes:
        axes.set_axis_off()
    for axes, square, label, name in zip(every_axes, squares, labels, names, strict=False):
        grey = square.shape[2] == 1
        # 0 to 255 is said, or matplotlib would stretch the levels of a grey picture to black and white
        axes.imshow(square[:, :, 0] if grey else square, cmap="gray", vmin=0, vmax=255)
        axes.set_title(label, fontsize=9, pad=3)
        axes.text(
            0.5, -0.03, _shortened(name), transform=axes.transAxes, fontsize=6, color="0.4", ha="center", va="top"
        )
    return figure


def _shortened(name: str) -> str:
    """The name, or its ends where it is long.

    >>> _shortened("a" * 15 + "-0123456789.jpg")
    'aaaaaaaaa…456789.jpg'
    """
    return name if len(name) <= SHORT else f"{name[:9]}…{name[-10:]}"
