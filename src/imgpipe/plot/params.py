"""Describe the section ``plot`` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal

from imgpipe.common.rules import Interval


@dataclass(frozen=True)
class Plot:
    """params.yaml: plot."""

    format: Literal["svg", "png"]
    """The format of the figures' files."""

    dpi: Annotated[int, Interval(low=30, high=1200)]
    """Dots per inch of a PNG, and of the images within an SVG."""

    examples: Annotated[int, Interval(low=1, high=1000)]
    """The most test images, right and wrong, that the report shows."""

    mistakes: Annotated[int, Interval(low=1, high=1000)]
    """The most mistakes that the report shows."""
