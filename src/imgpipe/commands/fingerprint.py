"""Look at images before there is a plan for them: how they are laid out, what classes they have, what they are like."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, median

import numpy as np
from PIL import Image

from imgpipe.commands.layout_guess import Layout, guess_layout
from imgpipe.common.errors import InputError
from imgpipe.common.progress import counting
from imgpipe.common.wording import counted, have
from imgpipe.data.archives import Member, is_image, is_image_file, members
from imgpipe.data.cells import TABLE_SUFFIX
from imgpipe.data.folders import content_of, files_below
from imgpipe.data.images import decode
from imgpipe.data.processes import by_processes
from imgpipe.prepare.duplicates import pixel_hash

GREY_TOLERANCE = 8
"""Levels by which the channels of a grey image may differ, which JPEG with halved colours makes of equal ones."""


@dataclass(frozen=True)
class Look:
    """What an image is like."""

    name: str
    """Its path in the folder or archive."""
    width: int
    """In pixels, upright."""
    height: int
    """In pixels, upright."""
    grey: bool
    """Whether its channels say the same."""
    brightest: int
    """Its highest level where it has 16 bits; else 0."""
    pixels: str
    """Hash of its pixels."""


@dataclass(frozen=True)
class Unreadable:
    """An image that can't be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class Fingerprint:
    """What there is: the facts that the plan is made from."""

    source: str
    """What the download stage takes it for: folder, archive or table."""
    location: str
    """The path as params.yaml has it."""
    layout: Layout
    """What says each image's class, split and group."""
    looks: list[Look]
    """Of each image that can be read and has a class."""
    unreadable: list[Unreadable]
    others: int
    """Files that are no images."""

    @cached_property
    def classes(self) -> Counter[str]:
        """How many images each class has."""
        return Counter(self.layout.parts[look.name].label for look in self.looks)

    @cached_property
    def splits(self) -> Counter[str]:
        """How many images each split has that the source names; the empty one those of no split."""
        return Counter(self.layout.parts[look.name].split for look in self.looks)

    @cached_property
    def groups(self) -> int:
        """How many groups there are."""
        return len({part.group for part in self.layout.parts.values() if part.group})

    @cached_property
    def short_sides(self) -> list[int]:
        """The short side of each image in pixels, sorted."""
        return sorted(min(look.width, look.height) for look in self.looks)

    @cached_property
    def median_side(self) -> int:
        """The median of the short sides in pixels."""
        return round(median(self.short_sides))

    @cached_property
    def longer(self) -> float:
        """Times that long sides are as long as short sides, the mean of all images."""
        return mean(max(look.width, look.height) / min(look.width, look.height) for look in self.looks)

    @cached_property
    def grey_count(self) -> int:
        """How many images are grey."""
        return sum(look.grey for look in self.looks)

    @cached_property
    def repeated(self) -> list[int]:
        """How many times each image occurs that occurs more than once, the highest number first."""
        return sorted((n for n in Counter(look.pixels for look in self.looks).values() if n > 1), reverse=True)

    @cached_property
    def contradicting(self) -> int:
        """How many images there are of which another one is a copy that has another label."""
        labels: dict[str, set[str]] = defaultdict(set)
        for look in self.looks:
            labels[look.pixels].add(self.layout.parts[look.name].label)
        return sum(len(labels[look.pixels]) > 1 for look in self.looks)

    @cached_property
    def for_training(self) -> int:
        """How many images are not in a split of their own for validation or the test."""
        return self.splits[""] + self.splits["train"]


def fingerprint(path: Path, location: str, *, processes: int) -> Fingerprint:
    """Look at every image of a folder, an archive, or the folder of a table.

    location: the path as params.yaml is to have it.
    processes: how many share the work.

    Raises InputError where there is nothing to train on.
    """
    if not path.exists():
        raise InputError(f"'{path}' does not exist; name a folder, a zip or tar, or a table (.csv) of images")
    source = "folder" if path.is_dir() else "table" if path.suffix.lower() == TABLE_SUFFIX else "archive"
    looks: list[Look] = []
    unreadable: list[Unreadable] = []
    tables: list[Member] = []
    others = 0

    def images() -> Iterator[Member]:
        nonlocal others
        for member in _members(path, source):
            if member.name.lower().endswith(TABLE_SUFFIX) and member.content is not None:
                tables.append(member)
            elif member.content is None:
                unreadable.append(Unreadable(member.shown, member.problem))
            elif is_image(member.name, member.content):
                yield member
            else:
                others += 1

    for seen in counting("looking", by_processes(look_at, images(), weigh=_weight, processes=processes)):
        (looks if isinstance(seen, Look) else unreadable).append(seen)  # type: ignore[arg-type]
    if not looks:
        raise InputError(
            f"'{path}' holds no image that can be read"
            + (f": {unreadable[0].name}: {unreadable[0].reason}" if unreadable else "")
        )
    names = [look.name for look in looks] + [image.name for image in unreadable]  # which a table may name, too
    layout = guess_layout(names, tables, only=path.name if source == "table" else None)
    return Fingerprint(
        source=source,
        location=location,
        layout=layout,
        looks=[look for look in sorted(looks, key=lambda look: look.name) if look.name in layout.parts],
        unreadable=unreadable,
        others=others,
    )


def _members(path: Path, source: str) -> Iterator[Member]:
    """Yield the files of an archive, of a folder, or of the folder in which a table lies."""
    if source == "archive":
        yield from members(path)
        return
    folder = path if source == "folder" else path.parent
    try:
        below = sorted(files_below(folder, outside=source == "table"))
    except OSError as error:
        raise InputError(f"'{folder}' can't be read whole: {error}; change that") from None
    for file, problem in below:
        name = file.relative_to(folder).as_posix()
        if problem:
            yield Member(name, None, problem)
            continue
        try:
            wanted = name.lower().endswith(TABLE_SUFFIX) or is_image_file(file)
            yield Member(name, content_of(file) if wanted else b"", "")
        except InputError as error:
            yield Member(name, None, str(error))
        except OSError as error:
            yield Member(name, None, f"it can't be read: {error.strerror}")


def _weight(member: Member) -> int:
    return len(member.content or b"")


def look_at(member: Member) -> Look | Unreadable:
    """Decode an image and say what it is like."""
    assert member.content is not None
    try:
        image = decode(member.content)
    except InputError as error:
        return Unreadable(member.shown, str(error))
    return Look(
        name=member.shown,
        width=image.width,
        height=image.height,
        grey=_is_grey(image),
        brightest=int(np.asarray(image).max()) if image.mode.startswith("I") else 0,
        pixels=pixel_hash(image),
    )


def _is_grey(image: Image.Image) -> bool:
    """Return whether the channels say the same, of the image shrunk to some pixels."""
    if image.mode in ("1", "L", "LA") or image.mode.startswith("I"):
        return True
    levels = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX)).astype(int)
    return bool((levels.max(axis=2) - levels.min(axis=2)).max() <= GREY_TOLERANCE)


def described(seen: Fingerprint) -> list[str]:
    """Return what was seen, in lines for people."""
    n, classes, sides = len(seen.looks), seen.classes.most_common(), seen.short_sides
    lines = [f"{counted(n, 'image')} in {counted(len(classes), 'class')}, told apart {seen.layout.says}"]
    if set(seen.splits) != {""}:
        names = {"train": "train", "val": "val", "test": "test", "": "no split"}
        lines.append(", ".join(f"{seen.splits[key]:,} in {name}" for key, name in names.items() if seen.splits[key]))
    (largest, most), (smallest, least) = classes[0], classes[-1]
    lines.append(
        f"the largest class: {largest}, {counted(most, 'image')}, guessing which is right for {most / n:.0%}; "
        f"the smallest: {smallest}, {least:,}"
    )
    colour = (
        "all grey" if seen.grey_count == n else f"{seen.grey_count:,} of them grey" if seen.grey_count else "in colour"
    )
    reach = f"{sides[0]} pixels"
    if sides[0] < sides[-1]:
        reach = f"{sides[0]} to {sides[-1]} pixels, median {seen.median_side}"
    lines.append(f"short sides: {reach}; {colour}")
    if deep := [look.brightest for look in seen.looks if look.brightest]:
        lines.append(
            f"{len(deep):,} {have(len(deep))} 16 bits, of which 65,535 is white; their brightest level is {max(deep):,}"
            + (": they will look dark; scale them to 16 bits" if max(deep) < 2**14 else "")
        )
    if seen.groups:
        lines.append(counted(seen.groups, "group"))
    if seen.unreadable:
        first = seen.unreadable[0]
        lines.append(f"{len(seen.unreadable):,} can't be read, such as {first.name}: {first.reason}")
    if seen.repeated:
        lines.append(
            f"copies of other images: {sum(seen.repeated) - len(seen.repeated):,}; the one that occurs most "
            f"often does so {seen.repeated[0]} times"
        )
    if seen.contradicting:
        lines.append(
            f"{counted(seen.contradicting, 'image')} with a copy of another label; prepare leaves all of them out"
        )
    if seen.others:
        lines.append(f"left out, since they are no images: {seen.others:,}")
    return lines
