"""Which picture is trained on, which chooses the best weights, and which is kept for the final test."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from imgpipe.errors import InputError

FOLDERS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "evaluation": "test",
}  # fmt: skip


def label_and_split(name: PurePosixPath) -> tuple[str, str | None]:
    """Class and given split of a picture, from its path ``.../[split/].../class/file``; None where no split is named.

    >>> label_and_split(PurePosixPath("validation/pets/cat/1.jpg"))
    ('cat', 'val')

    Raises InputError for a picture that is in no folder, or straight in a split's.
    """
    *folders, label = name.parts[:-1] or ("",)
    if not label:
        raise InputError(
            f"picture '{name}' is in no folder, which would name its class; sort the pictures into folders"
        )
    if label.lower() in FOLDERS:
        raise InputError(f"picture '{name}' is in '{label}', which names a split; put a folder for each class into it")
    given = [FOLDERS[folder.lower()] for folder in folders if folder.lower() in FOLDERS]
    return label, given[-1] if given else None


def assign(
    labels: Sequence[str], given: Sequence[str | None], *, val_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """The split of each picture. Given ones stay; a missing test or val is cut, stratified by class, from train.

    labels, given: class and given split of each picture. A picture without a given split starts in train.
    val_fraction, test_fraction: of the pictures that start in train.
    seed: of the cut. The order of the pictures counts too.

    Raises InputError where a class is too small for each split to have one of it.
    """
    splits = [split or "train" for split in given]
    if len(set(labels)) < 2:
        raise InputError(
            f"the pictures have {len(set(labels))} class; a classifier needs at least 2 folders of pictures"
        )
    start = Counter(label for label, split in zip(labels, splits, strict=True) if split == "train")
    cuts = {"test": test_fraction, "val": val_fraction}
    missing = {name: fraction for name, fraction in cuts.items() if name not in splits}
    for label in sorted(set(labels)):
        if start[label] <= len(missing):
            least = len(missing) + 1
            raise InputError(
                f"class '{label}' has {start[label]} pictures to train on and split; it needs {least} at least"
            )
    if (
        "test" not in missing
        and len({label for label, split in zip(labels, given, strict=True) if split == "test"}) < 2
    ):
        raise InputError("the given test split has 1 class; a test needs pictures of at least 2")
    for name, fraction in missing.items():
        _cut(splits, labels, name, round(fraction * start.total()), fraction, seed)
    return splits


def _cut(splits: list[str], labels: Sequence[str], name: str, size: int, fraction: float, seed: int) -> None:
    """Moves ``size`` pictures from train to another split, each class in proportion."""
    from sklearn.model_selection import train_test_split

    pool = [i for i, split in enumerate(splits) if split == "train"]
    counts = Counter(labels[i] for i in pool)
    where = f"params.yaml: prepare.{name}_fraction is {fraction}, which is {size} pictures"
    if size < len(counts) or len(pool) - size < len(counts):
        raise InputError(f"{where} for {name} of {len(pool)}; each of {len(counts)} classes needs one on both sides")
    small = {label: name for label, count in counts.items() if count == 1}
    if not small:
        _, moved = train_test_split(pool, test_size=size, stratify=[labels[i] for i in pool], random_state=seed)
        for i in moved:
            splits[i] = name
        has = set(zip(labels, splits, strict=True))
        small = {label: side for label in counts for side in ("train", name) if (label, side) not in has}
    for label, side in sorted(small.items()):
        raise InputError(f"{where}, and class '{label}' is too small to have one in {side}; change the fraction")
