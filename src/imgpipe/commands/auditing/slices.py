"""Slice the images by what is known of them, and find on which slice the predictions are worse than on the others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import PurePosixPath

import numpy as np

from imgpipe.commands.auditing.images import AuditedImage
from imgpipe.commands.auditing.statistics import Mask, Numbers, count_groups, difference_p_value
from imgpipe.commands.comparing.verdicts import holm
from imgpipe.evaluate.intervals import LEVEL, share_interval

FEWEST_IMAGES = 10
"""Images of the smallest slice that is looked at."""
FEWEST_GROUPS = 2
"""Groups that a slice and the other images must be of, where images have groups."""
MOST_NUMBERS = 10
"""Different numbers of a column up to which each is a slice; where there are more they are cut into quarters."""
GROUP = "group"
"""What images are sliced by where each slice is a group."""


@dataclass(frozen=True)
class Slice:
    """Some of the images, and how many of them are right; a row of slices.csv."""

    by: str
    """What the images are sliced by, such as a column of data/slices.csv."""
    value: str
    """What the images of the slice have there."""
    images: int
    groups: int | str
    """How many groups the images are of; empty where images have none."""
    accuracy: float
    low: float
    """The lower end of the accuracy's 95 % interval."""
    high: float
    """The upper end of the accuracy's 95 % interval."""
    others: float
    """The accuracy on all other images."""
    p_value: float
    """Of no difference to the other images, two-sided."""
    p_adjusted: float
    """The same, corrected for the number of slices by Holm's method."""

    @property
    def worse(self) -> bool:
        """Whether fewer are right than of the other images, by more than chance."""
        return self.accuracy < self.others and self.p_adjusted < 1 - LEVEL


@dataclass(frozen=True)
class SliceAudit:
    """How many predictions are right on each slice."""

    slices: list[Slice]
    """The worst first, by the upper end of the interval: few images alone do not make a slice the worst."""
    small: int
    """How many slices have too few images or groups, and are left out."""


def audit_slices(images: Sequence[AuditedImage], right: Mask) -> SliceAudit:
    """Compare the accuracy on each slice with that on all other images.

    Where images have groups, these are what is independent; of a slice that is one group its own images are. Slices of
    the same images count once, as they are sliced first.

    right: which predictions are right, (images,).
    """
    groups = _numbered_groups(images)
    slices: list[Slice] = []
    small = 0
    seen: set[bytes] = set()
    for by, values in _columns(images):
        different, which, sizes = np.unique(np.array(values), return_inverse=True, return_counts=True)
        small += int((sizes < FEWEST_IMAGES).sum())
        for number in np.flatnonzero((sizes >= FEWEST_IMAGES) & (sizes < len(images))).tolist():
            inside = which == number
            content = hashlib.blake2b(inside.tobytes()).digest()
            clusters = None if by == GROUP else groups
            if content in seen:
                continue
            if clusters is not None and _fewest(clusters, inside) < FEWEST_GROUPS:
                small += 1
                continue
            seen.add(content)
            slices.append(_measured(by, str(different[number]), inside, right, clusters))
    adjusted = holm([one.p_value for one in slices])
    slices = [replace(one, p_adjusted=p_value) for one, p_value in zip(slices, adjusted, strict=True)]
    return SliceAudit(sorted(slices, key=lambda one: (one.high, one.low, one.by, one.value)), small)


def _measured(by: str, value: str, inside: Mask, right: Mask, groups: Numbers | None) -> Slice:
    low, high = share_interval(right[inside], None if groups is None else groups[inside])
    p_value = difference_p_value(right, inside, groups)
    return Slice(
        by=by,
        value=value,
        images=int(inside.sum()),
        groups="" if groups is None else count_groups(groups[inside]),
        accuracy=float(right[inside].mean()),
        low=low,
        high=high,
        others=float(right[~inside].mean()),
        p_value=p_value,
        p_adjusted=p_value,
    )


def _numbered_groups(images: Sequence[AuditedImage]) -> Numbers | None:
    """Return the number of each image's group, (images,); None where no image has one.

    Images without a group beside such with one are each a group, copies of one image together.
    """
    if not any(image.group for image in images):
        return None
    names = [(image.group, "" if image.group else image.pixels) for image in images]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def _fewest(groups: Numbers, inside: Mask) -> int:
    """Return of how many groups the images inside are, or those outside, where these are fewer."""
    return min(count_groups(groups[side]) for side in (inside, ~inside))


def _columns(images: Sequence[AuditedImage]) -> list[tuple[str, Sequence[str]]]:
    """Return all that images are sliced by, each with the value of every image."""
    columns: list[tuple[str, Sequence[str]]] = [
        ("class", [image.label for image in images]),
        (GROUP, [image.group for image in images]),
        ("folder", [str(PurePosixPath(image.source).parent) for image in images]),
        ("pixels", _quarters([image.size for image in images])),
    ]
    for name in dict.fromkeys(name for image in images for name in image.columns):
        cells = [image.columns.get(name, "").strip() for image in images]
        numbers = _as_numbers(cells)
        columns.append((name, cells if numbers is None else _quarters(numbers)))
    return columns


def _as_numbers(cells: Sequence[str]) -> list[float] | None:
    """Return the cells as numbers, where they are all numbers and more than MOST_NUMBERS different ones."""
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    return numbers if len({*numbers}) > MOST_NUMBERS and all(map(isfinite, numbers)) else None


def _quarters(numbers: Sequence[float]) -> list[str]:
    """Return in which quarter of all numbers each is, as its least and its greatest number."""
    values = np.array(numbers, dtype=np.float64)
    quarters = np.searchsorted(np.unique(np.quantile(values, (0.25, 0.5, 0.75))), values)
    within = {quarter: values[quarters == quarter] for quarter in set(quarters.tolist())}
    ends = {quarter: dict.fromkeys(f"{end:,.10g}" for end in (its.min(), its.max())) for quarter, its in within.items()}
    return [" to ".join(ends[quarter]) for quarter in quarters.tolist()]
