from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from imgpipe import params
from imgpipe.files import replacing_folder
from imgpipe.rules import Interval, OneOf
from imgpipe.tables import read_table
from stages import command


@dataclass(frozen=True)
class Plot:
    """params.yaml: plot."""

    format: Annotated[str, OneOf(("svg", "png"))]
    dpi: Annotated[int, Interval(low=30, high=1200)]


def plot() -> None:
    """Draw the training curves, the confusion matrix and the ROC curves.

    Reads metrics/train/history.csv, metrics/test/predictions.csv and metrics/test/roc.csv; writes metrics/figures.
    """
    section = params.read("plot", Plot)

    from imgpipe import figures

    history = read_table(Path("metrics/train/history.csv"))
    predictions = read_table(Path("metrics/test/predictions.csv"))
    curves = read_table(Path("metrics/test/roc.csv"))
    with figures.house_style(), replacing_folder(Path("metrics/figures")) as folder:
        drawn = {
            "curves": figures.training_curves(history),
            "confusion": figures.confusion_matrix(predictions),
            "roc": figures.roc(curves),
        }
        for name, figure in drawn.items():
            figures.save(figure, folder / f"{name}.{section.format}", dpi=section.dpi)


if __name__ == "__main__":
    command.run(plot)
