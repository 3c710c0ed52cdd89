"""Read what models predicted of images that they had not been trained on, and what is known of these images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.commands.comparing.outcomes import IMAGES, PROBABILITIES, files_of, read_outcome
from imgpipe.commands.comparing.revisions import files_at
from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table
from imgpipe.common.progress import counting_where_long
from imgpipe.prepare.tables import OF_IMAGES

SLICES = "data/slices.csv"


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
    paths = list(dict.fromkeys([SLICES, *(path for split in splits for path in files_of(split))]))
    runs = []
    for name in counting_where_long("reading", revisions, len(revisions)):
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
    """Read what a revision predicted for the splits, from the files in the folder."""
    outcomes = [read_outcome(name, folder, split) for split in splits]
    probabilities = [np.load(folder / f"metrics/{split}" / PROBABILITIES) for split in splits]
    rows = {row["file"]: row for row in read_table(folder / IMAGES)}
    columns = {row.pop(OF_IMAGES): row for row in read_table(folder / SLICES)}
    labels: dict[str, set[str]] = {}
    for row in rows.values():
        labels.setdefault(row["pixels"], set()).add(row["label"])
    return _Run(
        name=name,
        classes=outcomes[0].classes,
        images=[_image(name, rows[file], columns.get(file, {})) for outcome in outcomes for file in outcome.files],
        probabilities=np.concatenate(probabilities).astype(np.float64),
        labels=labels,
    )


def _image(revision: str, row: dict[str, str], columns: dict[str, str]) -> AuditedImage:
    """Return an image as it stands in data/images.csv and data/slices.csv of the revision."""
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
