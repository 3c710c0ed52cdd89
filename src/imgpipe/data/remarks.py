"""Say in a sentence what to know about the images: which are left out, too few, odd or enlarged, and what to change.

The stages log these sentences, and the report and the model card list them. All of them come from plain numbers.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from imgpipe.common.wording import are, counted, have

FEW_IN_A_SPLIT = 100
"""Below so many images an accuracy is known to about 10 points either way, or worse."""
ENOUGH_IN_A_SPLIT = 1000
"""From so many images on it is known to about 3 points either way, whatever the other split has."""
FEW_TO_TRAIN = 5
"""Images of a class below which a network learns little of it."""
FEW_TO_TEST = 10
"""Test images of a class below which its scores say little: 0.98 / sqrt(10) is 31 points either way."""
MANY_TIMES = 5
"""So often no image occurs by chance."""


def on_splits(images: Mapping[str, int], classes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return what is to be said of the sizes of splits and classes.

    images: number by split.
    classes: number by class and split.
    """
    remarks = [small_split("val", images["val"], images["test"]), small_split("test", images["test"], images["val"])]
    for split in ("val", "test"):
        remarks.append(absent(split, {label: counts[split] for label, counts in classes.items()}))
    remarks.append(few_to_train({label: counts["train"] for label, counts in classes.items()}))
    remarks.append(few_to_test({label: counts["test"] for label, counts in classes.items()}))
    return [remark for remark in remarks if remark]


def small_split(split: str, images: int, others: int) -> str | None:
    """Say that a split is so small that its accuracy is known only roughly.

    split: val or test.
    images: how many it has.
    others: how many the other of the two has.
    """
    if images >= ENOUGH_IN_A_SPLIT or (images >= FEW_IN_A_SPLIT and images * 3 >= others):
        return None
    other = "test" if split == "val" else "val"
    return (
        f"{split} has {counted(images, 'image')} ({other} {others:,}): its accuracy is known to about "
        f"{100 * half_width(images):.0f} points either way; raise prepare.{split}_fraction, or, where the source gives "
        f"that folder, put more images into it"
    )


def half_width(images: int) -> float:
    """Return half the 95 % interval of an accuracy of 0.5, where it is widest, by the normal distribution."""
    return 1.96 * 0.5 / math.sqrt(images)


def absent(split: str, counts: Mapping[str, int]) -> str | None:
    """Say which classes have no image in a split.

    split: val or test.
    counts: number of its images by class.
    """
    without = [label for label, count in counts.items() if not count]
    if not without:
        return None
    which = f"{counted(len(without), 'class')} {have(len(without))} no image in {split}{_example(without)}"
    return f"{which}: it says nothing of them; add images, or let prepare.split stratified cut {split} out of train"


def few_to_train(counts: Mapping[str, int]) -> str | None:
    """Say which classes have few images in train, or a single one.

    counts: number of the training images by class.
    """
    few = sorted((label for label, count in counts.items() if count < FEW_TO_TRAIN), key=lambda label: counts[label])
    if not few:
        return None
    singles = [label for label in few if counts[label] == 1]
    if len(singles) == len(few):
        what = "a single image in train"
    else:
        some = f", {len(singles)} of them a single one" if singles else ""
        what = f"fewer than {FEW_TO_TRAIN} images in train{some}"
    return (
        f"{counted(len(few), 'class')} {have(len(few))} {what}{_example(few)}: little can be learnt from so few; add "
        "images, or merge classes by prepare.class_map"
    )


def few_to_test(counts: Mapping[str, int]) -> str | None:
    """Say which classes have few images in test. Those without any are ``absent``.

    counts: number of the test images by class.
    """
    few = [label for label, count in counts.items() if 0 < count < FEW_TO_TEST]
    if not few:
        return None
    return (
        f"{counted(len(few), 'class')} {have(len(few))} fewer than {FEW_TO_TEST} images in test{_example(few)}: "
        "scores of theirs say little, and the interval of the macro F1 is too narrow; add images, or raise "
        "prepare.test_fraction"
    )


def repeated(copies: Iterable[tuple[str, str, str]], *, dropped: bool) -> str | None:
    """Say which images occur so often that they may be placeholders, such as "no photo available".

    copies: for each copy of another image, pixel for pixel: the other image, its class, and the class of the copy.
    dropped: whether copies are left out.

    The image that is named is the one under several classes, if there is one, and of these the most frequent.
    """
    times: Counter[str] = Counter()
    classes: dict[str, set[str]] = defaultdict(set)
    for image, label, copy_label in copies:
        times[image] += 1
        classes[image] |= {label, copy_label}
    often = sorted(
        (image for image, count in times.items() if count + 1 >= MANY_TIMES),
        key=lambda image: (len(classes[image]) == 1, -times[image], image),
    )
    if not often:
        return None
    first, one = often[0], len(often) == 1
    occurs = f"occurs {times[first] + 1:,} times, such as '{first}'"
    which = f"one image {occurs}" if one else f"{len(often):,} images occur {MANY_TIMES} times or more; one {occurs}"
    under = f", under {len(classes[first])} classes" if len(classes[first]) > 1 else ""
    what = "copies are kept; prepare.duplicates drops them"
    if dropped:
        what = "copies are dropped, and one of each that is under one class stays"
    return (
        f"{which}{under}: {'a placeholder' if one else 'placeholders'}? {what}; take all out of the source where they "
        "show nothing of their class"
    )


def short_sides(rows: Iterable[Mapping[str, str]]) -> Counter[int]:
    """Count images by their short side in pixels.

    rows: of data/images.csv, with ``width`` and ``height``.
    """
    return Counter(min(int(row["width"]), int(row["height"])) for row in rows)


def enlarged(short_sides: Mapping[int, int], image_size: int, *, enlarge: bool) -> str | None:
    """Say how many images are smaller than what is packed, and are therefore enlarged.

    short_sides: number of images by short side in pixels.
    image_size, enlarge: of the section ``pack``.

    Nothing is said where all images are, none to more than twice its size: that is what somebody wanted.
    """
    images = sum(short_sides.values())
    small = sum(count for side, count in short_sides.items() if side < image_size)
    if not small or not enlarge or (small == images and image_size <= 2 * min(short_sides)):
        return None
    which = f"all {images:,} images are" if small == images else f"{small:,} of {images:,} images {are(small)}"
    return (
        f"{which} smaller than pack.image_size of {image_size:,} pixels (short sides from {min(short_sides):,}) and "
        f"{are(small)} enlarged: a smaller pack.image_size enlarges fewer of them, and pack.enlarge false none"
    )


def _example(names: list[str]) -> str:
    return f", '{names[0]}'" if len(names) == 1 else f", such as '{names[0]}'"
