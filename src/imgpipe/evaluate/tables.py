"""Write what was found on a split, image by image, class by class and in curves: all of its files but metrics.json."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.common.files import replacing, write_table
from imgpipe.evaluate.calibration import reliability, scores_at_thresholds
from imgpipe.evaluate.scoring import class_scores, precision_recall_curves, ranks, roc_curves


def write_predictions(
    folder: Path,
    *,
    classes: Sequence[str],
    files: Sequence[str],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
) -> None:
    """Write predictions.csv, probabilities.npy and classes.csv into the folder.

    classes: names, in the order of the probabilities.
    files: of the images.
    labels: true classes, (images,).
    probabilities: (images, classes), rows of sum 1.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    _write_columns(
        folder / "predictions.csv",
        {
            "file": files,
            "actual": [classes[c] for c in labels],
            "predicted": [classes[c] for c in predicted],
            "confidence": confidence,
            "rank": ranks(probabilities, labels),
        },
    )
    content = io.BytesIO()  # since numpy's own writing says of a full disk only how many numbers it took
    np.save(content, probabilities.astype(np.float32))
    with replacing(folder / "probabilities.npy") as draft:
        draft.write_bytes(content.getbuffer())
    _write_columns(folder / "classes.csv", {"class": classes, **class_scores(probabilities, labels)})


def write_curves(
    folder: Path,
    *,
    classes: Sequence[str],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    before_scaling: NDArray[np.float64] | None,
) -> None:
    """Write thresholds.csv, reliability.csv, roc.csv and precision_recall.csv into the folder.

    classes, labels, probabilities: see ``write_predictions``.
    before_scaling: probabilities at temperature 1; None where no temperature was fitted.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    _write_columns(folder / "thresholds.csv", scores_at_thresholds(confidence, predicted == labels))
    scalings = (
        {"before": probabilities} if before_scaling is None else {"before": before_scaling, "after": probabilities}
    )
    bins = {scaling: reliability(given, labels) for scaling, given in scalings.items()}
    _write_stacked(
        folder / "reliability.csv",
        ["scaling", *bins["before"]],
        {scaling: list(columns.values()) for scaling, columns in bins.items()},
    )
    _write_stacked(
        folder / "roc.csv",
        ["class", "false_positive_rate", "true_positive_rate"],
        {classes[c]: curve for c, curve in roc_curves(probabilities, labels).items()},
    )
    _write_stacked(
        folder / "precision_recall.csv",
        ["class", "recall", "precision"],
        {classes[c]: curve for c, curve in precision_recall_curves(probabilities, labels).items()},
    )


def _write_columns(path: Path, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write a table of columns by name."""
    _write_rows(path, list(columns), zip(*columns.values(), strict=True))


def _write_stacked(path: Path, names: Sequence[str], tables: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    """Write several tables of the same columns one below the other, the first cell of each row saying which it is of.

    names: of the first column and of the others.
    tables: the other columns, by the text of the first cell.
    """
    rows = ((which, *cells) for which, columns in tables.items() for cells in zip(*columns, strict=True))
    _write_rows(path, names, rows)


def _write_rows(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    write_table(path, names, (dict(zip(names, map(_cell, row), strict=True)) for row in rows))


def _cell(value: Any) -> Any:
    """Return floats rounded to 6 decimals, NaN as an empty cell, and everything else as it is."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else round(float(value), 6)
