"""Read what a revision predicted for the images of its val or test split, and pair revisions image by image."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table

IMAGES = "data/images.csv"
PREDICTIONS, PROBABILITIES, CLASSES = "predictions.csv", "probabilities.npy", "classes.csv"


def files_of(split: str) -> tuple[str, ...]:
    """Return the paths, from the project's root, of all that ``read_outcome`` reads."""
    return IMAGES, *(f"metrics/{split}/{name}" for name in (PREDICTIONS, PROBABILITIES, CLASSES))


@dataclass(frozen=True)
class Outcome:
    """What a revision predicted for a split, with an entry for each image, in the order of its predictions."""

    name: str
    """Of the revision."""

    classes: list[str]
    """The names of all classes."""

    files: list[str]
    """As predictions.csv has them."""

    pixels: list[str]
    """Hashes of the decoded pixels."""

    actual: list[str]
    """The names of the true classes."""

    predicted: list[str]
    """The names of the predicted classes."""

    losses: NDArray[np.float64]
    """The cross-entropy of each image, (images,)."""

    groups: list[str]
    """What is not independent of each other; empty for an image on its own."""

    trained_on: int
    """Images of the train split."""

    @property
    def content(self) -> frozenset[tuple[str, int]]:
        """What tells one split from another: the hashes of its images' pixels, and how often each is there."""
        return frozenset(Counter(self.pixels).items())


def read_outcome(name: str, folder: Path, split: str) -> Outcome:
    """Read what the revision called ``name`` predicted for a split, from its ``files_of`` the split, in ``folder``.

    Raises InputError where the files do not go together, such as where only some of the stages ran again.
    """
    _, at_predictions, at_probabilities, at_classes = files_of(split)
    classes = _columns(name, folder, at_classes, "class")["class"]
    table = _columns(name, folder, IMAGES, "file", "split", "label", "pixels", "group")
    predictions = _columns(name, folder, at_predictions, "file", "actual", "predicted")
    rows = zip(*table.values(), strict=True)
    images = {file: (label, pixels, group) for file, of, label, pixels, group in rows if of == split}
    probabilities = np.load(folder / at_probabilities, mmap_mode="r")
    labels = dict(zip(predictions["file"], predictions["actual"], strict=True))
    if labels != {file: label for file, (label, _, _) in images.items()}:
        raise InputError(f"'{name}': {at_predictions} and {IMAGES} have different images: {_again(name)}")
    numbers = {name: number for number, name in enumerate(classes)}
    named = {*labels.values(), *predictions["predicted"]}
    if probabilities.shape != (len(labels), len(classes)) or not named <= {*numbers}:
        raise InputError(
            f"'{name}': {at_predictions}, {at_probabilities} and {at_classes} do not go together: {_again(name)}"
        )
    return Outcome(
        name=name,
        classes=classes,
        files=predictions["file"],
        pixels=[images[file][1] for file in predictions["file"]],
        actual=predictions["actual"],
        predicted=predictions["predicted"],
        losses=_losses(probabilities, np.array([numbers[c] for c in predictions["actual"]])),
        groups=[images[file][2] for file in predictions["file"]],
        trained_on=table["split"].count("train"),
    )


def _losses(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each image. A probability that float32 rounded to 0 counts as its least above 0."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.maximum(own, float(np.finfo(np.float32).smallest_subnormal))))


def places_in(b: Outcome, a: Outcome) -> NDArray[np.int64]:
    """Return for each image of A its place in B, (images,): that of the same pixels, whatever the file's name.

    Raises InputError where the test images, their labels or the names of the classes are not the same. The order of
    the classes need not be.
    """
    if set(a.classes) != set(b.classes):
        raise InputError(
            f"'{a.name}' and '{b.name}' know different classes, so their metrics can't be compared: "
            + "; ".join(
                f"only '{x.name}' has {_some(sorted(set(x.classes) - set(y.classes)))}"
                for x, y in ((a, b), (b, a))
                if set(x.classes) - set(y.classes)
            )
        )
    shared = (Counter(a.pixels) & Counter(b.pixels)).total()
    if shared < max(len(a.files), len(b.files)):
        raise InputError(
            f"'{a.name}' and '{b.name}' were tested on different images ({len(a.files)} and {len(b.files)}, {shared} "
            "of them the same), so their metrics can't be compared: give both the same source and prepare parameters"
        )
    order_a, order_b = _by_pixels(a), _by_pixels(b)
    moved = [(i, j) for i, j in zip(order_a, order_b, strict=True) if a.actual[i] != b.actual[j]]
    if moved:
        i, j = moved[0]
        raise InputError(
            f"'{a.name}' and '{b.name}' have other labels for {len(moved)} of the same test images, such as "
            f"'{a.files[i]}', {a.actual[i]} and {b.actual[j]}, so their metrics can't be compared"
        )
    places = np.empty(len(order_a), dtype=np.int64)
    places[order_a] = order_b
    return places


def _by_pixels(outcome: Outcome) -> list[int]:
    """Return the places of the images in an order that no file's name changes, copies of one image apart."""
    return sorted(range(len(outcome.files)), key=lambda i: (outcome.pixels[i], outcome.actual[i], outcome.files[i]))


def _columns(name: str, folder: Path, path: str, *columns: str) -> dict[str, list[str]]:
    """Read columns of a revision's table. Raises InputError where one is not there."""
    rows = read_table(folder / path)
    for column in columns:
        if not rows or column not in rows[0]:
            raise InputError(
                f"'{name}': {path} has no column '{column}', it was made by another version: {_again(name)}"
            )
    return {column: [row[column] for row in rows] for column in columns}


def _again(name: str) -> str:
    return f"run `dvc repro` at '{name}'"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
