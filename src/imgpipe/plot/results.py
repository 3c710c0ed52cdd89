"""Read what the stages before plot have found."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.common.files import read_rows, read_table
from imgpipe.data import left_out, remarks
from imgpipe.data.packed import Form, Pixels

Row = dict[str, str]
"""A row of a table: its cells by the names of the columns."""


@dataclass(frozen=True)
class Training:
    """What the train stage found."""

    history: list[Row]
    """Losses and accuracies of each epoch, of history.csv."""

    best: int
    """The epoch that did best on the validation split, counted from 1."""


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

    heatmaps: dict[str, Pixels]
    """What spoke for the predicted class, and where, by the file of a mistake: uint8 (side, side)."""


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

    shown: int
    """How many of the training images each epoch trains on."""

    remarks: list[str]
    """What to know about the images, a sentence each."""


def read_training(folder: Path) -> Training:
    """Read what the train stage wrote to the folder."""
    best = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["best"]
    return Training(read_table(folder / "history.csv"), best["epoch"])


def read_evaluation(folder: Path) -> Evaluation:
    """Read what the evaluate stage wrote to the folder."""
    curves = ("precision_recall", "roc", "reliability", "thresholds")
    mistakes, maps = read_table(folder / "heatmaps/index.csv"), np.load(folder / "heatmaps/maps.npy")
    return Evaluation(
        metrics=json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        classes=read_table(folder / "classes.csv"),
        predictions=read_table(folder / "predictions.csv"),
        heatmaps={row["file"]: heat for row, heat in zip(mistakes, maps, strict=True)},
        **{name: read_table(folder / "curves" / f"{name}.csv") for name in curves},
    )


def read_preparation(summary: Path, tables: Path, *, form: Form, train: Mapping[str, Any]) -> Preparation:
    """Read what the prepare stage wrote.

    summary: a JSON file.
    tables: folder of images.csv, rejected.csv and duplicates.csv.
    form: how the images were packed.
    train: the section of params.yaml.
    """
    counts = json.loads(summary.read_text(encoding="utf-8"))
    pairs = read_table(tables / "duplicates.csv")
    equal = [row for row in pairs if row["kind"] != "near"]
    in_train, batch_size = counts["images"]["train"], train["batch_size"]
    shown = left_out.shown_in_an_epoch(in_train, batch_size=batch_size, last_batch=train["last_batch"])
    said = [
        *remarks.on_splits(counts["images"], counts["classes"]),
        remarks.repeated(
            ((row["twin"], row["twin_label"], row["label"]) for row in equal),
            dropped=any(row["dropped"] == "True" for row in equal),
        ),
        remarks.enlarged(remarks.short_sides(read_rows(tables / "images.csv")), form.image_size, enlarge=form.enlarge),
        left_out.left_out(in_train, shown, batch_size, least=left_out.LARGE_SHARE),
    ]
    return Preparation(
        images=counts["images"],
        classes=counts["classes"],
        rejected=read_table(tables / "rejected.csv"),
        duplicates=pairs,
        shown=shown,
        remarks=[remark for remark in said if remark],
    )
