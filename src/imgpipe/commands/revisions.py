"""Files as they are at a commit, branch, tag or experiment of DVC, or as they lie in the workspace."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table

WORKSPACE = "workspace"
"""The name that DVC, too, gives to the files as they lie."""


@dataclass(frozen=True)
class Revision:
    """``name`` as the user gave it; ``commit``: its hash, None of the workspace; ``folder``: where its files lie."""

    name: str
    commit: str | None
    folder: Path


@contextmanager
def files_at(name: str, paths: Sequence[str]) -> Iterator[Revision]:
    """The files of a revision, in a folder that is there for the length of the block.

    name: WORKSPACE, or what Git or ``dvc exp show`` calls a revision, if need be abbreviated (dvc.org,
    api-reference/dvcfilesystem: ``rev``). paths: from the project's root; tracked by Git or DVC. DVC reads what its
    cache lacks from its default remote.

    Raises InputError outside of a project, and where there is no such revision or it lacks one of the files.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import RevError

    try:
        root = Path(Repo.find_root())
    except NotDvcRepoError:
        raise InputError(f"'{Path.cwd()}' is in no DVC project: go to the folder of the pipeline") from None
    if name == WORKSPACE:
        for path in paths:
            if not (root / path).is_file():
                raise InputError(f"the workspace has no {path}: `dvc pull` gets it, `dvc repro` makes it")
        yield Revision(name, None, root)
        return

    with TemporaryDirectory() as folder:
        files = DVCFileSystem(root, rev=name)
        try:
            commit = files.repo.get_rev()
        except RevError as error:
            raise InputError(
                f"'{name}' is no commit, branch, tag or finished experiment: {error}; see `git branch`, `dvc exp show`"
            ) from None
        for path in paths:
            if not files.exists(path):
                raise InputError(f"the pipeline of '{name}' makes no {path}: run its parameters with the present code")
            try:
                files.get_file(path, str(Path(folder, path)))
            except (OSError, DvcException) as error:
                raise InputError(
                    f"'{name}': {path} is in neither DVC's cache nor its remote ({error}): check '{name}' out (`git "
                    f"checkout {name}`, of an experiment `dvc exp apply {name}`), then `dvc pull` or `dvc repro`"
                ) from None
        yield Revision(name, commit, Path(folder))


Array = np.ndarray[Any, Any]

IMAGES = "data/images.csv"
PREDICTIONS = "metrics/test/predictions.csv"
PROBABILITIES = "metrics/test/probabilities.npy"
CLASSES = "metrics/test/classes.csv"
FILES = (IMAGES, PREDICTIONS, PROBABILITIES, CLASSES)


@dataclass(frozen=True)
class Outcome:
    """A revision's test: an entry for each image, in the order of its predictions.

    classes: their names. files: as metrics/test/predictions.csv has them. content: hashes of the decoded pixels.
    actual, predicted: names of classes. losses: float64 (images,).
    """

    name: str
    classes: list[str]
    files: list[str]
    content: list[str]
    actual: list[str]
    predicted: list[str]
    losses: Array


def read_test(name: str, folder: Path) -> Outcome:
    """The test of the revision called ``name`` from its FILES, which lie in ``folder``.

    Raises InputError where the files do not go together, such as where only some of the stages ran again.
    """
    classes = _columns(name, folder, CLASSES, "class")["class"]
    table = _columns(name, folder, IMAGES, "file", "split", "label", "pixels")
    predictions = _columns(name, folder, PREDICTIONS, "file", "actual", "predicted")
    rows = zip(*table.values(), strict=True)
    images = {file: (label, pixels) for file, split, label, pixels in rows if split == "test"}
    probabilities = np.load(folder / PROBABILITIES, mmap_mode="r")
    labels = dict(zip(predictions["file"], predictions["actual"], strict=True))
    if labels != {file: label for file, (label, _) in images.items()}:
        raise InputError(f"'{name}': {PREDICTIONS} and {IMAGES} have different test images: {_again(name)}")
    numbers = {c: i for i, c in enumerate(classes)}
    if probabilities.shape != (len(labels), len(classes)) or not {*labels.values(), *predictions["predicted"]} <= {
        *numbers
    }:
        raise InputError(f"'{name}': {PREDICTIONS}, {PROBABILITIES} and {CLASSES} do not go together: {_again(name)}")
    return Outcome(
        name=name,
        classes=classes,
        files=predictions["file"],
        content=[images[file][1] for file in predictions["file"]],
        actual=predictions["actual"],
        predicted=predictions["predicted"],
        losses=_losses(probabilities, np.array([numbers[c] for c in predictions["actual"]])),
    )


def _losses(probabilities: Array, labels: Array) -> Array:
    """Cross-entropy of each image; a probability that float32 rounded to 0 counts as the smallest that it has."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.maximum(own, float(np.finfo(np.float32).smallest_subnormal))))


def places_in(b: Outcome, a: Outcome) -> Array:
    """For each image of A its place in B, int64 (images,): that of the same pixels, whatever the file's name.

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
    shared = (Counter(a.content) & Counter(b.content)).total()
    if shared < max(len(a.files), len(b.files)):
        raise InputError(
            f"'{a.name}' and '{b.name}' were tested on different images ({len(a.files)} and {len(b.files)}, {shared} "
            "of them the same), so their metrics can't be compared: give both the same source and prepare parameters"
        )
    order_a, order_b = _by_content(a), _by_content(b)
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


def _by_content(test: Outcome) -> list[int]:
    """Places of the images in an order that no file's name changes, copies of one image apart."""
    return sorted(range(len(test.files)), key=lambda i: (test.content[i], test.actual[i], test.files[i]))


def _columns(name: str, folder: Path, path: str, *columns: str) -> dict[str, list[str]]:
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
