"""Decide which images are trained on, which choose the best epoch, and which are kept for the test.

To add a strategy: a function ``(images, fractions, seed)`` that says which image moves where, and a line in STRATEGIES.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imgpipe.common.errors import InputError

SPLITS = ("train", "val", "test")
MOST_FOLDS = 20
"""The most folds, of about one size, into which groups are sorted."""


@dataclass(frozen=True)
class Candidate:
    """The facts about an image that decide its split."""

    label: str
    """Its class."""
    given: str
    """The split that the source names; empty where it names none."""
    group: str
    content: str
    """Hash of its pixels."""


Fractions = Mapping[str, float]
"""Splits to be cut from the training images, and the share of these images for each."""
Strategy = Callable[[Sequence[Candidate], Fractions, int], dict[int, str]]
"""Maps the index of each image that leaves train to its new split, given a seed."""


def assign(
    images: Sequence[Candidate], strategy: Strategy, *, val_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """Return the split of each image. Given splits stay; a missing test or val is cut from the training images.

    Training images are those whose given split is train, and those without a given split.

    images: the result depends on their order.
    strategy: one of STRATEGIES, by which the missing splits are cut.
    val_fraction, test_fraction: of the training images.
    seed: of the strategy's random choices.

    Raises InputError where there is a single class, no image of a class to train on, or too few to cut, and where
    images without a group are to be split by groups.
    """
    if strategy is grouped and not all(image.group for image in images):
        raise InputError(
            "params.yaml: prepare.split is 'grouped', which needs a group of every image: by prepare.pattern or, of a "
            "table, by prepare.columns.group"
        )
    splits = [image.given or "train" for image in images]
    fractions = {"test": test_fraction, "val": val_fraction}
    missing = {name: fraction for name, fraction in fractions.items() if name not in splits}
    training = [i for i, split in enumerate(splits) if split == "train"]
    _check_classes(images, training, least=len(missing) + 1)
    if missing:
        for i, split in strategy([images[i] for i in training], missing, seed).items():
            splits[training[i]] = split
    _check_splits(images, splits)
    if strategy is grouped:
        _check_groups(images, splits)
    return splits


def _check_classes(images: Sequence[Candidate], training: Sequence[int], *, least: int) -> None:
    """Refuse a single class, and a class with too few of the training images, whose places are given."""
    labels = {image.label for image in images}
    if len(labels) < 2:
        raise InputError(f"the images have {len(labels)} class; a classifier needs at least 2 folders of images")
    counts = Counter(images[i].label for i in training)
    for label in sorted(labels):
        if counts[label] < least:
            raise InputError(
                f"class '{label}' has {counts[label]} images to train on and split; it needs {least} at least: "
                "add some, or merge it into another class (params.yaml: prepare.class_map)"
            )


def _check_splits(images: Sequence[Candidate], splits: Sequence[str]) -> None:
    """Refuse splits that can't be trained on, validated or tested."""
    labels: dict[str, set[str]] = {name: set() for name in SPLITS}
    for image, split in zip(images, splits, strict=True):
        labels[split].add(image.label)
    for label in sorted({image.label for image in images} - labels["train"]):
        raise InputError(f"class '{label}' has no image to train on after the cut; change prepare's fractions or seed")
    if not labels["val"]:
        raise InputError("the val split has no image; change params.yaml: prepare.val_fraction")
    if len(labels["test"]) < 2:
        raise InputError(f"the test split has {len(labels['test'])} class; a test needs images of at least 2")


def _check_groups(images: Sequence[Candidate], splits: Sequence[str]) -> None:
    """Refuse a group that is in two splits."""
    split_of_group: dict[str, str] = {}
    for image, split in zip(images, splits, strict=True):
        other = split_of_group.setdefault(image.group, split)
        if other != split:
            raise InputError(
                f"group '{image.group}' has images in {other} and in {split}, as the source gives "
                "them; with prepare.split grouped none may"
            )


def stratified(images: Sequence[Candidate], fractions: Fractions, seed: int) -> dict[int, str]:
    """Move images at random, each class in proportion, with scikit-learn's train_test_split.

    Raises InputError where a class is too small for each split to have one.
    """
    from sklearn.model_selection import train_test_split  # takes a second, and the check of params.yaml needs the names

    moved: dict[int, str] = {}
    for name, fraction in fractions.items():
        size = round(fraction * len(images))
        pool = [i for i in range(len(images)) if i not in moved]
        counts = Counter(images[i].label for i in pool)
        where = f"params.yaml: prepare.{name}_fraction is {fraction}, which is {size} images"
        if size < len(counts) or len(pool) - size < len(counts):
            raise InputError(
                f"{where} for {name} of {len(pool)}; each of {len(counts)} classes needs one on both sides"
            )
        lacking = {label: name for label, count in counts.items() if count == 1}  # the side that has none of a class
        if not lacking:
            labels = [images[i].label for i in pool]
            _, chosen = train_test_split(pool, test_size=size, stratify=labels, random_state=seed)
            moved |= dict.fromkeys(chosen, name)
            has = {(images[i].label, moved.get(i, "train")) for i in pool}
            lacking = {label: side for label in counts for side in ("train", name) if (label, side) not in has}
        for label, side in sorted(lacking.items()):
            raise InputError(
                f"{where}, and class '{label}' is too small to have one in {side}; add images of it, merge it into "
                "another class (prepare.class_map), or change the fraction"
            )
    return moved


def grouped(images: Sequence[Candidate], fractions: Fractions, seed: int) -> dict[int, str]:
    """Move whole groups at random, so that no group is on two sides, each class about in proportion.

    The groups are sorted into folds of about one size (scikit-learn's StratifiedGroupKFold), 20 at most; a split is as
    many folds as come nearest to its fraction.

    Raises InputError where too few groups have a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, as in stratified

    groups_of: dict[str, set[str]] = {}
    for image in images:
        groups_of.setdefault(image.label, set()).add(image.group)
    least = len(fractions) + 1
    for label, its_groups in sorted(groups_of.items()):
        if len(its_groups) < least:
            raise InputError(
                f"class '{label}' has images of {len(its_groups)} groups; to split it by group takes {least}"
            )
    labels, groups = [image.label for image in images], [image.group for image in images]
    fold_count = min(MOST_FOLDS, len(set(groups)), min(Counter(labels).values()))
    sorted_in = StratifiedGroupKFold(fold_count, shuffle=True, random_state=seed).split(labels, labels, groups)
    folds = [fold.tolist() for _, fold in sorted_in]
    moved: dict[int, str] = {}
    for name, fraction in fractions.items():
        for _ in range(max(1, round(fraction * fold_count))):
            if len(folds) > 1:
                moved |= dict.fromkeys(folds.pop(), name)
    for name in (*fractions, "train"):
        there = {labels[i] for i in range(len(images)) if moved.get(i, "train") == name}
        for label in sorted(set(labels) - there):
            raise InputError(f"split by group, class '{label}' has no image in {name}; change prepare's fractions")
    return moved


def hashed(images: Sequence[Candidate], fractions: Fractions, seed: int) -> dict[int, str]:
    """Move images by a hash of their pixels, so that an image added or taken away moves no other.

    Sizes and classes come out in proportion only on average.
    """
    moved = {}
    for i, image in enumerate(images):
        digest = hashlib.blake2b(f"{seed} {image.content}".encode(), digest_size=8).digest()
        number = (
            int.from_bytes(digest, "big") / 2**64
        )  # from 0 to 1; the splits take an interval each, one after the other
        for name, fraction in fractions.items():
            if 0 <= number < fraction:
                moved[i] = name
            number -= fraction
    return moved


STRATEGIES: dict[str, Strategy] = {"stratified": stratified, "grouped": grouped, "hash": hashed}
