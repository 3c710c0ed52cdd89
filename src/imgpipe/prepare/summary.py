"""Sum up what was prepared: numbers for metrics/prepare.json, and what the log says of them."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from imgpipe.common.wording import counted
from imgpipe.data import remarks
from imgpipe.prepare.prepare import Duplicate, PreparedImage
from imgpipe.prepare.reading import Rejected
from imgpipe.prepare.splits import SPLITS


def summary(
    images: Sequence[PreparedImage], rejected: Sequence[Rejected], duplicates: Sequence[Duplicate]
) -> dict[str, Any]:
    """Return what a reader wants to know first, as plain numbers for ``dvc metrics``."""
    per_class: dict[str, dict[str, int]] = {}
    for (label, split), count in sorted(Counter((image.label, image.split) for image in images).items()):
        per_class.setdefault(label, dict.fromkeys(SPLITS, 0))[split] = count
    equal = [pair for pair in duplicates if pair.kind == "equal"]
    near = [pair for pair in duplicates if pair.kind == "near"]
    return {
        "images": {"all": len(images), **{split: sum(image.split == split for image in images) for split in SPLITS}},
        "classes": per_class,
        "pixels": {
            "width": _range(image.width for image in images),
            "height": _range(image.height for image in images),
        },
        "bytes": sum(image.bytes for image in images),
        "rejected": {
            "pictures": sum(file.picture for file in rejected),
            "other_files": sum(not file.picture for file in rejected),
        },
        "duplicates": {
            "equal": len(equal),
            "equal_across_splits": sum(pair.split != pair.twin_split and pair.split != "" for pair in equal),
            "equal_with_other_label": sum(pair.label != pair.twin_label for pair in equal),
            "contradictions": sum(pair.kind == "contradiction" for pair in duplicates),
            "near": len(near),
            "near_across_splits": sum(pair.split != pair.twin_split for pair in near),
            "dropped": {
                **{split: sum(pair.dropped and pair.split == split for pair in duplicates) for split in SPLITS},
                "before_the_cut": sum(pair.dropped and not pair.split for pair in duplicates),
            },
        },
    }


def _range(lengths: Iterable[int]) -> dict[str, float]:
    lengths = sorted(lengths)
    return {"min": lengths[0], "median": median(lengths), "max": lengths[-1]}


def log_summary(numbers: dict[str, Any], duplicates: Iterable[Duplicate]) -> None:
    """Log how many images there are, and warn of what a user may want to put right.

    numbers: as ``summary`` gives them.
    """
    images, rejected, copies = numbers["images"], numbers["rejected"]["pictures"], numbers["duplicates"]
    counts = ", ".join(f"{count} {split}" for split, count in images.items() if split != "all")
    logging.info("%s; %s", counted(len(numbers["classes"]), "class"), counts)
    for remark in remarks.on_splits(images, numbers["classes"]):
        logging.warning("%s", remark)
    if rejected:
        logging.warning("%s rejected: data/rejected.csv says why", counted(rejected, "image"))
    if copies["equal"] or copies["near"]:
        logging.warning(
            "images equal to another: %d, nearly so: %d (%d in another split), dropped: %d; see data/duplicates.csv",
            copies["equal"],
            copies["near"],
            copies["near_across_splits"],
            sum(copies["dropped"].values()),
        )
    equal = [pair for pair in duplicates if pair.kind != "near"]
    dropped = any(pair.dropped for pair in equal)
    of_equal = ((pair.twin, pair.twin_label, pair.label) for pair in equal)
    if placeholders := remarks.repeated(of_equal, dropped=dropped):
        logging.warning("%s", placeholders)
    differing = [pair for pair in equal if pair.label != pair.twin_label]
    if differing:
        logging.warning(
            "equal images, different labels: '%s' is %s, '%s' is %s; %s",
            differing[0].source,
            differing[0].label,
            differing[0].twin,
            differing[0].twin_label,
            f"all {copies['contradictions']:,} such images are left out: see data/duplicates.csv"
            if differing[0].dropped
            else f"{copies['equal_with_other_label']:,} such copies are kept; prepare.duplicates drop leaves them out",
        )
