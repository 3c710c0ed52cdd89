"""Sort images into splits: copies are left out, and each image gets its split, its class and a file name."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imgpipe.common.errors import InputError
from imgpipe.prepare.duplicates import equal_groups, near_pairs
from imgpipe.prepare.layouts import classes_of
from imgpipe.prepare.params import Prepare
from imgpipe.prepare.reading import Found
from imgpipe.prepare.splits import SPLITS, STRATEGIES, Candidate, assign


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
    """equal (pixel for pixel) or near (to the eye)."""
    source: str
    """Path in the archive of the one that goes, where one does."""
    split: str
    """Empty where it was left out before the splits were cut."""
    label: str
    twin: str
    """Path in the archive of the other, which stays."""
    twin_split: str
    twin_label: str
    differing_bits: int
    """Of the perceptual hash."""
    dropped: bool
    """Whether the one was left out."""


Pair = tuple[int, int, int]
"""Numbers of two images that are duplicates, of which the second stays, and the bits in which their hashes differ."""


def prepare_images(found: Sequence[Found], section: Prepare) -> tuple[list[PreparedImage], list[Duplicate]]:
    """Return the images that stay, sorted by file name, and the pairs of duplicates.

    found: the images of the archive, sorted by source: their order counts.

    Raises InputError for what the section refuses, and where too little is left to split.
    """
    candidates = _candidates(found, section)
    equal = _equal_twins(candidates)
    if equal and section.duplicates == "fail":
        _refuse_copies(found, equal)
    copies = {i for i, _, _ in equal} if section.duplicates == "drop" else set()
    kept = [i for i in range(len(found)) if i not in copies]
    cut = assign(
        [candidates[i] for i in kept],
        STRATEGIES[section.split],
        val_fraction=section.val_fraction,
        test_fraction=section.test_fraction,
        seed=section.seed,
    )
    splits = dict(zip(kept, cut, strict=True))
    near = _near_twins(found, splits, distance=section.near_distance)
    duplicates = [
        *_rows("equal", equal, found, candidates, splits, dropped=section.duplicates == "drop"),
        *_rows("near", near, found, candidates, splits, dropped=section.near_duplicates == "drop"),
    ]
    if section.near_duplicates == "drop":
        splits = _without(near, splits, candidates)
    return _named(found, candidates, splits), duplicates


def _candidates(found: Sequence[Found], section: Prepare) -> list[Candidate]:
    """Return what the split of each image is decided by."""
    classes = classes_of((image.named.label for image in found), section.class_names, section.class_map)
    return [Candidate(classes[i.named.label], i.named.split, i.named.group, i.pixels) for i in found]


def _equal_twins(candidates: Sequence[Candidate]) -> list[Pair]:
    """Return each image that is a copy, with the one that stays: that of test, else that of val, else the first."""
    pairs: list[Pair] = []
    for group in equal_groups(image.content for image in candidates):
        best = max(group, key=lambda i: (SPLITS.index(candidates[i].given or "train"), -i))
        pairs += [(i, best, 0) for i in group if i != best]
    return pairs


def _refuse_copies(found: Sequence[Found], equal: Sequence[Pair]) -> None:
    one, other, _ = equal[0]
    raise InputError(
        f"{len(equal)} images are copies of others, such as '{found[one].source}' of '{found[other].source}'; "
        "params.yaml: prepare.duplicates is 'fail'"
    )


def _near_twins(found: Sequence[Found], splits: Mapping[int, str], *, distance: int) -> list[Pair]:
    """Return each image that is near to one in a later split of SPLITS, though not equal, with the nearest of these.

    splits: by the number of the image.
    """
    numbers = list(splits)
    levels = [SPLITS.index(split) for split in splits.values()]
    pairs = near_pairs([found[i].look for i in numbers], levels, distance=distance)
    numbered = [(numbers[i], numbers[twin], bits) for i, twin, bits in pairs]
    return [(i, twin, bits) for i, twin, bits in numbered if found[i].pixels != found[twin].pixels]


def _rows(
    kind: str,
    pairs: Iterable[Pair],
    found: Sequence[Found],
    candidates: Sequence[Candidate],
    splits: Mapping[int, str],
    *,
    dropped: bool,
) -> list[Duplicate]:
    """Return the rows of data/duplicates.csv for pairs of one kind."""
    return [
        Duplicate(
            kind=kind,
            source=found[i].source,
            split=splits.get(i, candidates[i].given),
            label=candidates[i].label,
            twin=found[twin].source,
            twin_split=splits[twin],
            twin_label=candidates[twin].label,
            differing_bits=bits,
            dropped=dropped,
        )
        for i, twin, bits in sorted(pairs)
    ]


def _without(near: Iterable[Pair], splits: Mapping[int, str], candidates: Sequence[Candidate]) -> dict[int, str]:
    """Return the splits without the near duplicates.

    Raises InputError where they were all of a class's training images, or all of the val split.
    """
    gone = {i for i, _, _ in near}
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
