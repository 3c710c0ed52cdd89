"""Decide which images are trained on, which choose the best epoch, and which are kept for the test.

To add a strategy: a function ``(units, fractions, seed)`` that says which unit moves where, one that sorts units into
folds, and a line in STRATEGIES.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgpipe.common.errors import InputError
from imgpipe.common.wording import counted
from imgpipe.prepare.units import Fractions, Unit, chance, even_folds, fill, linked

SPLITS = ("train", "val", "test")
FAR_OFF = 0.02
"""Share of the images from which on a split that is larger or smaller than asked is worth a warning."""


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
    alike: int
    """Number of the set of images that are alike to the eye in which it is."""


@dataclass(frozen=True)
class Strategy:
    """A way to cut splits."""

    by_group: bool
    """Whether images of a group move together. Those of equal pixels, or of one set of alike ones, always do."""
    cut: Callable[[Sequence[Unit], Fractions, int], dict[int, str]]
    """Maps the number of each unit that leaves train to its new split, given a seed."""
    folds: Callable[[Sequence[Unit], int, int], list[int]]
    """Returns the fold of each unit, given their number and a seed."""


def assign(
    images: Sequence[Candidate],
    strategy: Strategy,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    folds: int | None,
    fold: int,
) -> list[str]:
    """Return the split of each image. Given splits stay; a missing test or val is cut from the training images.

    Training images are those whose given split is train, and those without a given split.

    images: the result depends on their order.
    strategy: one of STRATEGIES, by which the missing splits are cut.
    val_fraction, test_fraction: of the training images.
    seed: of the strategy's random choices.
    folds: number of parts into which the training images are sorted, of which one is the test split; or None, where
        that is cut by its fraction.
    fold: number of that part, from 0.

    Raises InputError where there is a single class, no image of a class to train on, or too few to cut; where images
    without a group are to be split by groups; and where there are folds and the source gives a test split.
    """
    if strategy.by_group and not all(image.group for image in images):
        raise InputError(
            "params.yaml: prepare.split is by group, which needs a group of every image: by prepare.pattern or, of a "
            "table, by prepare.columns.group"
        )
    splits = [image.given or "train" for image in images]
    if folds is not None and "test" in splits:
        raise InputError("params.yaml: prepare.folds cuts the test split, and the source gives one; set it to null")
    fractions = {"test": test_fraction, "val": val_fraction}
    missing = {name: fraction for name, fraction in fractions.items() if name not in splits}
    training = [i for i, split in enumerate(splits) if split == "train"]
    sorted_by_hand = strategy.by_group or folds is not None  # then a class may lack in a split, which is remarked upon
    _check_classes(images, training, least=1 if sorted_by_hand else len(missing) + 1)
    units = _units(images, training, by_group=strategy.by_group)
    if folds is not None:
        missing["test"] = 1 / folds
        tested = _tested(units, strategy.folds(units, folds, seed), fold)
        splits = _moved(splits, units, dict.fromkeys(tested, "test"))
        rest = [unit for i, unit in enumerate(units) if i not in tested]
        cut = {name: share / (1 - 1 / folds) for name, share in missing.items() if name == "val"}
        splits = _moved(splits, rest, strategy.cut(rest, cut, seed))
    elif missing:
        splits = _moved(splits, units, strategy.cut(units, missing, seed))
    _check_splits(images, splits)
    if strategy.by_group:
        _check_groups(images, splits)
    _log_sizes([splits[i] for i in training], missing)
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
                f"class '{label}' has {counted(counts[label], 'image')} to train on and split; it needs {least} at "
                "least: add some, or merge it into another class (params.yaml: prepare.class_map)"
            )


def _units(images: Sequence[Candidate], training: Sequence[int], *, by_group: bool) -> list[Unit]:
    """Return the units of the training images, whose places are given, in the order of their first images."""
    pairs: list[tuple[int, int]] = []
    for kind in ("alike", "content", *(["group"] if by_group else [])):
        first: dict[object, int] = {}
        pairs += [(first.setdefault(getattr(images[i], kind), place), place) for place, i in enumerate(training)]
    members: dict[int, list[int]] = {}
    for place, lowest in enumerate(linked(len(training), pairs)):
        members.setdefault(lowest, []).append(training[place])
    return [
        Unit(
            places,
            Counter(images[i].label for i in places),
            min(images[i].group if by_group else images[i].content for i in places),
        )
        for places in members.values()
    ]


def _tested(units: Sequence[Unit], folds: Sequence[int], fold: int) -> set[int]:
    """Return the numbers of the units of a fold.

    folds: the fold of each unit.

    Raises InputError where all units of a class are in one fold, whichever: nothing could be trained on to test that.
    """
    folds_of: dict[str, set[int]] = {}
    for unit, its in zip(units, folds, strict=True):
        for label in unit.labels:
            folds_of.setdefault(label, set()).add(its)
    for label, its_folds in sorted(folds_of.items()):
        if len(its_folds) == 1:
            raise InputError(
                f"class '{label}' is in a single one of the folds, and then has no image to train on; add images of "
                "it, merge it into another class (prepare.class_map), or change prepare.folds or its seed"
            )
    return {i for i, its in enumerate(folds) if its == fold}


def _moved(splits: Sequence[str], units: Sequence[Unit], moves: dict[int, str]) -> list[str]:
    """Return the splits of the images with those of some units changed."""
    changed = list(splits)
    for i, split in moves.items():
        for image in units[i].images:
            changed[image] = split
    return changed


def _log_sizes(splits: Sequence[str], asked: Fractions) -> None:
    """Log which splits are larger or smaller than asked: whole units, or a rare class, may not allow it.

    splits: of the training images.
    """
    counts = Counter(splits)
    for name, fraction in asked.items():
        off = abs(counts[name] / len(splits) - fraction)
        if off * len(splits) >= 1:
            logging.log(
                logging.WARNING if off >= FAR_OFF else logging.INFO,
                "%s is %.1f %% of the images, and %.1f %% were asked",
                name,
                100 * counts[name] / len(splits),
                100 * fraction,
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
                "them; with prepare.split by group none may"
            )


def stratified(units: Sequence[Unit], fractions: Fractions, seed: int) -> dict[int, str]:
    """Move units at random, each class in proportion.

    Single images are cut by scikit-learn's train_test_split; where some move together, or that would leave a split
    without a class, by ``fill``.
    """
    from sklearn.model_selection import train_test_split  # takes a second, and the check of params.yaml needs the names

    labels = ["".join(unit.labels) if unit.labels.total() == 1 else None for unit in units]
    moved: dict[int, str] = {}
    for name, fraction in fractions.items():
        size = round(fraction * len(units))
        pool = [i for i in range(len(units)) if i not in moved]
        counts = Counter(labels[i] for i in pool)
        if None in counts or min(counts.values()) < 2 or not len(counts) <= size <= len(pool) - len(counts):
            return fill(units, fractions, seed)
        _, chosen = train_test_split(pool, test_size=size, stratify=[labels[i] for i in pool], random_state=seed)
        moved |= dict.fromkeys(chosen, name)
    there = {(label, moved.get(i, "train")) for i, label in enumerate(labels)}
    return moved if len(there) == len(set(labels)) * (len(fractions) + 1) else fill(units, fractions, seed)


def hashed(units: Sequence[Unit], fractions: Fractions, seed: int) -> dict[int, str]:
    """Move units by a hash of their key, so that one added or taken away moves no other.

    Sizes and classes come out in proportion only on average.
    """
    moved = {}
    for i, unit in enumerate(units):
        number = chance(str(seed), unit) / 2**64  # from 0 to 1; the splits take an interval each, one after the other
        for name, fraction in fractions.items():
            if 0 <= number < fraction:
                moved[i] = name
            number -= fraction
    return moved


def hashed_folds(units: Sequence[Unit], folds: int, seed: int) -> list[int]:
    """Return the fold of each unit by a hash of its key: each fold takes an interval of equal length."""
    return [chance(f"{seed} fold", unit) * folds >> 64 for unit in units]


STRATEGIES: dict[str, Strategy] = {
    "stratified": Strategy(by_group=False, cut=stratified, folds=even_folds),
    "grouped": Strategy(by_group=True, cut=fill, folds=even_folds),
    "hash": Strategy(by_group=False, cut=hashed, folds=hashed_folds),
    "grouped_hash": Strategy(by_group=True, cut=hashed, folds=hashed_folds),
}
