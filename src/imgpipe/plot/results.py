"""Read what the stages before plot have found."""

import json
from dataclasses import dataclass
from pathlib import Path

from imgpipe.common.files import read_table

Row = dict[str, str]
"""A row of a table: its cells by the names of the columns."""


@dataclass(frozen=True)
class Evaluation:
    """What the evaluate stage found in the test; docs/evaluation.md says what the columns are."""

    metrics: dict[str, float | None]
    """Numbers by name, of metrics.json."""

    classes: list[Row]
    """Scores of each class."""

    predictions: list[Row]
    """The prediction for each test image."""

    precision_recall: list[Row]
    roc: list[Row]
    reliability: list[Row]
    thresholds: list[Row]


@dataclass(frozen=True)
class Preparation:
    """What the prepare stage found in the data."""

    images: dict[str, int]
    """The number of images by split."""

    classes: dict[str, dict[str, int]]
    """The number of images by class and split."""

    rejected: list[Row]
    """Files that are not used: ``source`` and ``reason``."""

    duplicates: list[Row]
    """Pairs of images that are equal or much alike."""


def read_evaluation(folder: Path) -> Evaluation:
    """Read what the evaluate stage wrote to the folder."""
    curves = ("precision_recall", "roc", "reliability", "thresholds")
    return Evaluation(
        metrics=json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        classes=read_table(folder / "classes.csv"),
        predictions=read_table(folder / "predictions.csv"),
        **{name: read_table(folder / "curves" / f"{name}.csv") for name in curves},
    )


def read_preparation(summary: Path, *, rejected: Path, duplicates: Path) -> Preparation:
    """Read what the prepare stage wrote: its summary, a JSON file, and two tables."""
    counts = json.loads(summary.read_text(encoding="utf-8"))
    return Preparation(
        images=counts["images"],
        classes=counts["classes"],
        rejected=read_table(rejected),
        duplicates=read_table(duplicates),
    )
