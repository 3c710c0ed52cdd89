"""Which image is trained on, which chooses the best weights, and which is kept for the final test.

To add a way: a function ``(images, cuts, seed)`` that says which image goes where, and a line in WAYS.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imgpipe.common.errors import InputError

SPLITS = ("train", "val", "test")
MOST_FOLDS = 20


@dataclass(frozen=True)
class Candidate:
    """What a split is decided by. ``given`` is the split that the source names, or empty; ``content`` a hash."""

    label: str
    given: str
    group: str
    content: str


Cuts = Mapping[str, float]
Way = Callable[[Sequence[Candidate], Cuts, int], dict[int, str]]


def assign(images: Sequence[Candidate], way: Way, *, val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """The split of each image. Given ones stay; a missing test or val is cut from train. One of WAYS says how.

    An image without a given split starts in train.
    val_fraction, test_fraction: of the images that start in train.
    seed: of the cut. The order of the images counts too.

    Raises InputError where there is a single class, or no image of a class to train on, or too few to cut; where
    images without a group are to be split by groups.
    """
    if way is grouped and not all(image.group for image in images):
        raise InputError("params.yaml: prepare.split is 'grouped', which needs prepare.pattern to name a group")
    splits = [image.given or "train" for image in images]
    labels = {image.label for image in images}
    if len(labels) < 2:
        raise InputError(f"the images have {len(labels)} class; a classifier needs at least 2 folders of images")
    cuts = {"test": test_fraction, "val": val_fraction}
    missing = {name: fraction for name, fraction in cuts.items() if name not in splits}
    pool = [i for i, split in enumerate(splits) if split == "train"]
    start = Counter(images[i].label for i in pool)
    for label in sorted(labels):
        if start[label] <= len(missing):
            least = len(missing) + 1
            raise InputError(
                f"class '{label}' has {start[label]} images to train on and split; it needs {least} at least: "
                "add some, or merge it into another class (params.yaml: prepare.class_map)"
            )
    if missing:
        for i, split in way([images[i] for i in pool], missing, seed).items():
            splits[pool[i]] = split
    has = {name: {image.label for image, split in zip(images, splits, strict=True) if split == name} for name in SPLITS}
    for label in sorted(labels - has["train"]):
        raise InputError(f"class '{label}' has no image to train on after the cut; change prepare's fractions or seed")
    if not has["val"]:
        raise InputError("the val split has no image; change params.yaml: prepare.val_fraction")
    if len(has["test"]) < 2:
        raise InputError(f"the test split has {len(has['test'])} class; a test needs images of at least 2")
    if way is grouped:
        _check_groups(images, splits)
    return splits


def _check_groups(images: Sequence[Candidate], splits: Sequence[str]) -> None:
    side: dict[str, str] = {}
    for image, split in zip(images, splits, strict=True):
        if side.setdefault(image.group, split) != split:
            raise InputError(
                f"group '{image.group}' has images in {side[image.group]} and in {split}, as the source gives "
                "them; with prepare.split grouped none may"
            )


def stratified(images: Sequence[Candidate], cuts: Cuts, seed: int) -> dict[int, str]:
    """At random, each class in proportion. Raises InputError where a class is too small for each split to have one."""
    from sklearn.model_selection import train_test_split

    moved: dict[int, str] = {}
    for name, fraction in cuts.items():
        size = round(fraction * len(images))
        pool = [i for i in range(len(images)) if i not in moved]
        counts = Counter(images[i].label for i in pool)
        where = f"params.yaml: prepare.{name}_fraction is {fraction}, which is {size} images"
        if size < len(counts) or len(pool) - size < len(counts):
            raise InputError(
                f"{where} for {name} of {len(pool)}; each of {len(counts)} classes needs one on both sides"
            )
        small = {label: name for label, count in counts.items() if count == 1}
        if not small:
            labels = [images[i].label for i in pool]
            _, chosen = train_test_split(pool, test_size=size, stratify=labels, random_state=seed)
            moved |= dict.fromkeys(chosen, name)
            has = {(images[i].label, moved.get(i, "train")) for i in pool}
            small = {label: side for label in counts for side in ("train", name) if (label, side) not in has}
        for label, side in sorted(small.items()):
            raise InputError(
                f"{where}, and class '{label}' is too small to have one in {side}; add images of it, merge it into "
                "another class (prepare.class_map), or change the fraction"
            )
    return moved


def grouped(images: Sequence[Candidate], cuts: Cuts, seed: int) -> dict[int, str]:
    """Whole groups at random, so that no group is on two sides, each class about in proportion.

    The groups are dealt into folds of about one size (scikit-learn's StratifiedGroupKFold), 20 at most; a split is as
    many folds as come nearest to its fraction.

    Raises InputError where too few groups have a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups_of: dict[str, set[str]] = {}
    for image in images:
        groups_of.setdefault(image.label, set()).add(image.group)
    for label, its_groups in sorted(groups_of.items()):
        if len(its_groups) <= len(cuts):
            raise InputError(
                f"class '{label}' has images of {len(its_groups)} groups; to split it by group takes {len(cuts) + 1}"
            )
    labels, groups = [p.label for p in images], [p.group for p in images]
    most = min(MOST_FOLDS, len(set(groups)), min(Counter(labels).values()))
    dealt = StratifiedGroupKFold(most, shuffle=True, random_state=seed).split(labels, labels, groups)
    folds = [fold.tolist() for _, fold in dealt]
    moved: dict[int, str] = {}
    for name, fraction in cuts.items():
        for _ in range(max(1, round(fraction * most))):
            if len(folds) > 1:
                moved |= dict.fromkeys(folds.pop(), name)
    for name in (*cuts, "train"):
        there = {labels[i] for i in range(len(images)) if moved.get(i, "train") == name}
        for label in sorted(set(labels) - there):
            raise InputError(f"split by group, class '{label}' has no image in {name}; change prepare's fractions")
    return moved


def hashed(images: Sequence[Candidate], cuts: Cuts, seed: int) -> dict[int, str]:
    """By a hash of each image's pixels, so that an image added or taken away moves no other.

    Sizes and classes come out in proportion only on average.
    """
    moved = {}
    for i, image in enumerate(images):
        digest = hashlib.blake2b(f"{seed} {image.content}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        for name, fraction in cuts.items():
            if 0 <= place < fraction:
                moved[i] = name
            place -= fraction
    return moved


WAYS: dict[str, Way] = {"stratified": stratified, "grouped": grouped, "hash": hashed}
