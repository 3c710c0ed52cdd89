"""Read what models predicted of images that they had not been trained on, and what is known of these images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.commands.revisions import files_at
from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table

IMAGES = "data/images.csv"
SLICES = "data/slices.csv"
KNOWN = ("file", "split", "label", "group", "source", "width", "height", "pixels")
"""The columns of IMAGES that are read."""
OF_SPLIT = ("predictions.csv", "probabilities.npy", "classes.csv")
"""The files of a split in metrics/<split>."""


@dataclass(frozen=True)
class AuditedImage:
    """An image that a model predicted."""

    revision: str
    """The name of the run that predicted it."""
    file: str
    """As data/images.csv of that run has it."""
    source: str
    """Its path in the archive."""
    pixels: str
    """The hash of its pixels, by which it is known in every run."""
    label: str
    """The name of its class."""
    group: str
    """What it belongs to; empty where no groups are named."""
    size: int
    """Width by height, in pixels."""
    columns: dict[str, str]
    """What data/slices.csv says of it, by column."""


@dataclass(frozen=True)
class Predicted:
    """All images that are audited, and what was predicted for them."""

    revisions: list[str]
    splits: tuple[str, ...]
    """Of each revision, whose images these are."""
    classes: list[str]
    images: list[AuditedImage]
    probabilities: NDArray[np.float64]
    """(images, classes)."""
    untested: int
    """Images that the revisions know and none of them predicted without having been trained on it."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The number of each image's class, (images,)."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[image.label] for image in self.images])


def read_predicted(revisions: Sequence[str]) -> Predicted:
    """Read the images that the revisions predicted.

    Of several revisions these are their test images, which together are all images once, as in a cross-validation. Of
    one they are its validation and test images.

    revisions: names, as ``files_at`` takes them; at least one.

    Raises InputError where a revision or a file of it is not there, and where revisions do not go together.
    """
    splits = ("test",) if len(revisions) > 1 else ("val", "test")
    paths = [IMAGES, SLICES, *(f"metrics/{split}/{file}" for split in splits for file in OF_SPLIT)]
    runs = []
    for name in revisions:
        with files_at(name, paths) as revision:
            runs.append(_read_run(name, revision.folder, splits))
    first = runs[0]
    if len(first.classes) < 2:
        raise InputError(f"'{first.name}' knows {len(first.classes)} class: an audit of labels needs at least 2")
    _check_together(runs)
    order = [[run.classes.index(name) for name in first.classes] for run in runs]
    tested = {image.pixels for run in runs for image in run.images}
    return Predicted(
        revisions=list(revisions),
        splits=splits,
        classes=first.classes,
        images=[image for run in runs for image in run.images],
        probabilities=np.concatenate([run.probabilities[:, places] for run, places in zip(runs, order, strict=True)]),
        untested=len({pixels for run in runs for pixels in run.labels} - tested),
    )


@dataclass(frozen=True)
class _Run:
    """What a revision predicted."""

    name: str
    classes: list[str]
    images: list[AuditedImage]
    probabilities: NDArray[np.float64]
    labels: dict[str, set[str]]
    """The names of the classes of all its images, trained on or not, by the hash of the pixels."""


def _read_run(name: str, folder: Path, splits: Iterable[str]) -> _Run:
    """Read the predictions of a revision's splits, whose files lie in the folder."""
    table = _rows(name, folder, IMAGES, KNOWN)
    columns = {row.pop("file"): row for row in read_table(folder / SLICES)}
    known = {row["file"]: row for row in table}
    classes: list[str] = []
    files: list[str] = []
    probabilities = []
    for split in splits:
        path = f"metrics/{split}"
        classes = [row["class"] for row in _rows(name, folder, f"{path}/classes.csv", ["class"])]
        predictions = _rows(name, folder, f"{path}/predictions.csv", ["file", "actual"])
        found = np.load(folder / path / "probabilities.npy").astype(np.float64)
        labels = {row["file"]: row["actual"] for row in predictions}
        if labels != {row["file"]: row["label"] for row in table if row["split"] == split}:
            raise InputError(f"'{name}': {path}/predictions.csv and {IMAGES} have different images: {_again(name)}")
        if found.shape != (len(predictions), len(classes)) or not {*labels.values()} <= {*classes}:
            raise InputError(f"'{name}': the files in {path} do not go together: {_again(name)}")
        files += labels
        probabilities.append(found)
    by_pixels: dict[str, set[str]] = {}
    for row in table:
        by_pixels.setdefault(row["pixels"], set()).add(row["label"])
    images = [_image(name, known[file], columns.get(file, {})) for file in files]
    return _Run(name, classes, images, np.concatenate(probabilities), by_pixels)


def _image(revision: str, row: dict[str, str], columns: dict[str, str]) -> AuditedImage:
    return AuditedImage(
        revision=revision,
        file=row["file"],
        source=row["source"],
        pixels=row["pixels"],
        label=row["label"],
        group=row["group"],
        size=int(row["width"]) * int(row["height"]),
        columns=columns,
    )


def _rows(name: str, folder: Path, path: str, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read a revision's table. Raises InputError where it has no rows or lacks a column."""
    rows = read_table(folder / path)
    for column in columns:
        if not rows or column not in rows[0]:
            raise InputError(
                f"'{name}': {path} has no column '{column}', it was made by another version: {_again(name)}"
            )
    return rows


def _again(name: str) -> str:
    return f"run `dvc repro` at '{name}'"


def _check_together(runs: Sequence[_Run]) -> None:
    """Raise InputError where runs are not folds of the same images with the same labels and classes."""
    first = runs[0]
    tested: dict[str, str] = {}
    for run in runs:
        if {*run.classes} != {*first.classes}:
            only = sorted({*run.classes} ^ {*first.classes})
            raise InputError(
                f"'{first.name}' and '{run.name}' know different classes, so they can't be audited together: only one "
                f"of them has '{only[0]}'" + (f" and {len(only) - 1} more" if only[1:] else "")
            )
        for pixels, labels in run.labels.items():
            if labels != first.labels.get(pixels, labels):
                source = next((image.source for image in run.images if image.pixels == pixels), pixels)
                raise InputError(
                    f"'{first.name}' and '{run.name}' have different labels for one image ('{source}', "
                    f"{_joined(first.labels[pixels])} and {_joined(labels)}): audit runs of the same data"
                )
        for image in run.images:
            before = tested.setdefault(image.pixels, run.name)
            if before != run.name:
                raise InputError(
                    f"'{before}' and '{run.name}' were both tested on '{image.source}', so they are no folds of the "
                    "images: give one of them, or runs that differ in prepare.fold alone"
                )


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
