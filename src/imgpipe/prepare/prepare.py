"""Sort images into splits: copies are left out, and each image gets its split, its class and a file name."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from imgpipe.common.errors import InputError
from imgpipe.common.wording import are, counted
from imgpipe.data.archives import too_long
from imgpipe.prepare.duplicates import equal_groups
from imgpipe.prepare.layouts import classes_of
from imgpipe.prepare.near import NearPair, near_pairs
from imgpipe.prepare.params import Prepare
from imgpipe.prepare.reading import Found
from imgpipe.prepare.splits import SPLITS, STRATEGIES, Candidate, assign
from imgpipe.prepare.units import linked


@dataclass(frozen=True)
class PreparedImage:
    """An image in its split; a row of data/images.csv."""

    file: str
    """Where it is in data/prepared: ``<split>/<label>/<name>``."""
    split: str
    label: str
    """Its class."""
    group: str
    """What may not be on two sides of a split; empty where none is named."""
    source: str
    """Its path in the archive."""
    width: int
    """In pixels, upright."""
    height: int
    """In pixels, upright."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Of the file."""
    pixels: str
    """Hash of the pixels, equal for equal images in whatever format."""


@dataclass(frozen=True)
class Duplicate:
    """Two images that are equal, or near; a row of data/duplicates.csv."""

    kind: str
    """equal (pixel for pixel), contradiction (equal to one of another class, so that all go) or near (to the eye)."""
    source: str
    """Path in the archive of the one that goes, where one does."""
    split: str
    """Empty where it was left out before the splits were cut."""
    label: str
    twin: str
    """Path in the archive of the other, which stays but where they contradict each other."""
    twin_split: str
    twin_label: str
    correlation: float
    """Of their thumbnails; 1 where they are equal."""
    mirrored: bool
    """Whether the one is like the mirror image of the other."""
    dropped: bool
    """Whether the one was left out."""


LARGE_SHARE = 0.05
"""Share of the images from which on a set of near duplicates is too large to be believed."""
LARGE_SET = 20
"""Number of them below which it is not."""


def prepare_images(found: Sequence[Found], section: Prepare) -> tuple[list[PreparedImage], list[Duplicate]]:
    """Return the images that stay, sorted by file name, and the pairs of duplicates.

    found: the images of the archive, sorted by source: their order counts.

    Raises InputError for what the section refuses, and where too little is left to split.
    """
    candidates = _candidates(found, section)
    copies = [_by_split(group, candidates) for group in equal_groups(image.content for image in candidates)]
    if copies and section.duplicates == "fail":
        _refuse_copies(found, copies)
    gone = _gone(copies, candidates) if section.duplicates == "drop" else set()
    kept = [i for i in range(len(found)) if i not in gone]
    _check_labels(candidates, kept)
    copied = {i for group in copies for i in group[1:]}
    near = _near(found, [i for i in kept if i not in copied], correlation=section.near_correlation)
    if section.near_duplicates == "group":
        alike = linked(len(found), [(pair.one, pair.other) for pair in near])
        candidates = [replace(image, alike=number) for image, number in zip(candidates, alike, strict=True)]
        _warn_of_large_sets(found, alike, kept)
    cut = assign(
        [candidates[i] for i in kept],
        STRATEGIES[section.split],
        val_fraction=section.val_fraction,
        test_fraction=section.test_fraction,
        seed=section.seed,
        folds=section.folds,
        fold=section.fold,
    )
    splits = dict(zip(kept, cut, strict=True))
    pairs = [
        *_equal_pairs(copies, candidates, gone),
        *_near_twins(near, splits, drop=section.near_duplicates == "drop"),
    ]
    duplicates = [_row(pair, found, candidates, splits) for pair in pairs]
    if section.near_duplicates == "drop":
        splits = _without({pair.one for pair in pairs if pair.kind == "near" and pair.dropped}, splits, candidates)
    return _named(found, candidates, splits), duplicates


@dataclass(frozen=True)
class _Pair:
    """Numbers of two images that are duplicates, and what a row of data/duplicates.csv says of them."""

    kind: str
    one: int
    twin: int
    correlation: float
    mirrored: bool
    dropped: bool


def _candidates(found: Sequence[Found], section: Prepare) -> list[Candidate]:
    """Return what the split of each image is decided by; each is alike to itself alone."""
    classes = classes_of((image.named.label for image in found), section.class_names, section.class_map)
    return [
        Candidate(classes[image.named.label], image.named.split, image.named.group, image.pixels, alike=number)
        for number, image in enumerate(found)
    ]


def _by_split(group: Sequence[int], candidates: Sequence[Candidate]) -> list[int]:
    """Return copies of an image with the one that stays first: that of test, else that of val, else the first."""
    best = max(group, key=lambda i: (SPLITS.index(candidates[i].given or "train"), -i))
    return [best, *(i for i in group if i != best)]


def _contradictory(group: Sequence[int], candidates: Sequence[Candidate]) -> bool:
    """Return whether copies of an image are of several classes: it can be neither trained on nor tested."""
    return len({candidates[i].label for i in group}) > 1


def _gone(copies: Sequence[Sequence[int]], candidates: Sequence[Candidate]) -> set[int]:
    """Return the copies to leave out: all but one of an image, or all where they contradict each other."""
    return {i for group in copies for i in (group if _contradictory(group, candidates) else group[1:])}


def _refuse_copies(found: Sequence[Found], copies: Sequence[Sequence[int]]) -> None:
    one, other = min((i, group[0]) for group in copies for i in group[1:])
    count = sum(len(group) - 1 for group in copies)
    raise InputError(
        f"{counted(count, 'image')} {are(count)} equal to another, such as '{found[one].source}' to "
        f"'{found[other].source}'; params.yaml: prepare.duplicates is 'fail'"
    )


def _check_labels(candidates: Sequence[Candidate], kept: Iterable[int]) -> None:
    """Refuse to lose a class of which each image is equal to one of another."""
    for label in sorted({image.label for image in candidates} - {candidates[i].label for i in kept}):
        raise InputError(
            f"each image of class '{label}' is equal to one of another class, so none can be used; correct the labels, "
            "or merge the classes (params.yaml: prepare.class_map)"
        )


def _near(found: Sequence[Found], numbers: Sequence[int], *, correlation: float) -> list[NearPair]:
    """Return the pairs of images that are near, of those with the given numbers."""
    pairs = near_pairs([found[i].thumbnail for i in numbers], correlation=correlation)
    return [replace(pair, one=numbers[pair.one], other=numbers[pair.other]) for pair in pairs]


def _warn_of_large_sets(found: Sequence[Found], alike: Sequence[int], kept: Sequence[int]) -> None:
    ((largest, size),) = Counter(alike[i] for i in kept).most_common(1)
    if size >= max(LARGE_SET, LARGE_SHARE * len(kept)):
        logging.warning(
            "%d images, %.0f %% of all, are linked to '%s' as near duplicates and move to one split together; where "
            "they are not, raise prepare.near_correlation, or let prepare.near_duplicates report them",
            size,
            100 * size / len(kept),
            found[largest].source,
        )


def _equal_pairs(
    copies: Iterable[Sequence[int]], candidates: Sequence[Candidate], gone: Collection[int]
) -> Iterator[_Pair]:
    """Yield each image that is a copy with the one that stays. Where that goes too, it is paired with another class."""
    pairs = []
    for group in copies:
        kind = "contradiction" if group[0] in gone else "equal"
        pairs += [_Pair(kind, i, group[0], 1.0, False, i in gone) for i in group[1:]]
        if kind == "contradiction":
            other = next(i for i in group if candidates[i].label != candidates[group[0]].label)
            pairs.append(_Pair(kind, group[0], other, 1.0, False, True))
    yield from sorted(pairs, key=lambda pair: pair.one)


def _near_twins(near: Iterable[NearPair], splits: Mapping[int, str], *, drop: bool) -> Iterator[_Pair]:
    """Yield each image that is near to one of a later split of SPLITS, or else to an earlier one of its own.

    Of several the one with the highest correlation is its twin.

    splits: by the number of the image.
    drop: whether those near to one of another split are left out.
    """
    twins: dict[int, list[tuple[bool, float, int, bool]]] = {}
    for pair in near:
        one, twin = sorted((pair.one, pair.other), key=lambda i: (SPLITS.index(splits[i]), -i))
        twins.setdefault(one, []).append((splits[one] != splits[twin], pair.correlation, -twin, pair.mirrored))
    for one in sorted(twins):
        across, correlation, negative, mirrored = max(twins[one])
        yield _Pair("near", one, -negative, correlation, mirrored, across and drop)


def _row(pair: _Pair, found: Sequence[Found], candidates: Sequence[Candidate], splits: Mapping[int, str]) -> Duplicate:
    """Return the row of data/duplicates.csv for a pair."""
    return Duplicate(
        kind=pair.kind,
        source=found[pair.one].source,
        split=splits.get(pair.one, candidates[pair.one].given),
        label=candidates[pair.one].label,
        twin=found[pair.twin].source,
        twin_split=splits.get(pair.twin, candidates[pair.twin].given),
        twin_label=candidates[pair.twin].label,
        correlation=round(pair.correlation, 4),
        mirrored=pair.mirrored,
        dropped=pair.dropped,
    )


def _without(gone: Collection[int], splits: Mapping[int, str], candidates: Sequence[Candidate]) -> dict[int, str]:
    """Return the splits without the near duplicates that go.

    Raises InputError where they were all of a class's training images, or all of the val split.
    """
    left = {i: split for i, split in splits.items() if i not in gone}
    trained = {candidates[i].label for i, split in left.items() if split == "train"}
    for label in sorted({image.label for image in candidates} - trained):
        raise InputError(
            f"class '{label}' has no image to train on once near duplicates are dropped; "
            "see params.yaml: prepare.near_duplicates"
        )
    if "val" not in left.values():
        raise InputError(
            "the val split has no image once near duplicates are dropped; see params.yaml: prepare.near_duplicates"
        )
    return left


def _named(found: Sequence[Found], candidates: Sequence[Candidate], splits: Mapping[int, str]) -> list[PreparedImage]:
    """Return the images with their file names, by which they are sorted.

    A file keeps its source's own name or, where two of one class and split have the same, its whole path.
    """
    folders = {i: f"{split}/{candidates[i].label}" for i, split in splits.items()}
    short = {i: f"{folder}/{PurePosixPath(found[i].source).name}" for i, folder in folders.items()}
    counts = Counter(short.values())
    images: dict[str, PreparedImage] = {}
    for i, split in splits.items():
        one = found[i]
        file = short[i] if counts[short[i]] == 1 else f"{folders[i]}/{one.source.replace('/', '_')}"
        if problem := too_long(file):
            raise InputError(
                f"'{one.source}' is one of several of its name, so it is called by its whole path, and {problem}; "
                "rename it"
            )
        if file in images:
            raise InputError(f"'{images[file].source}' and '{one.source}' would both be {file}; rename one")
        images[file] = PreparedImage(
            file=file,
            split=split,
            label=candidates[i].label,
            group=one.named.group,
            source=one.source,
            width=one.width,
            height=one.height,
            bytes=one.bytes,
            sha256=one.sha256,
            pixels=one.pixels,
        )
    return [images[file] for file in sorted(images)]


def contents(spool: Path, found: Iterable[Found], images: Iterable[PreparedImage]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each prepared image's file.

    spool: where ``read_archive`` has put the bytes of what it found.
    """
    offsets = {image.source: image.offset for image in found}
    with spool.open("rb") as file:
        for image in images:
            file.seek(offsets[image.source])
            yield image.file, file.read(image.bytes)
