"""Images to ImageFolder splits: duplicates out, each image in its split and class, and a table of them all."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

from imgpipe.common.errors import InputError
from imgpipe.data.archives import write_tar
from imgpipe.prepare.duplicates import equal_groups, near_pairs
from imgpipe.prepare.layouts import classes_of
from imgpipe.prepare.reading import Found, Rejected
from imgpipe.prepare.splits import SPLITS, Candidate, Way, assign


@dataclass(frozen=True)
class ListedImage:
    """A row of the table. ``file`` is ``<split>/<label>/<name>``; label is the class; the rest as in ``Found``."""

    file: str
    split: str
    label: str
    group: str
    source: str
    width: int
    height: int
    bytes: int
    sha256: str
    pixels: str


@dataclass(frozen=True)
class Duplicate:
    """Two images, by their paths in the archive, that are equal (pixel for pixel) or near (to the eye).

    differing_bits: of the perceptual hash. dropped: whether ``source`` was left out because of ``twin``. An empty
    split: the image was left out before the splits were cut.
    """

    kind: str
    source: str
    split: str
    label: str
    twin: str
    twin_split: str
    twin_label: str
    differing_bits: int
    dropped: bool


def prepare(
    found: Sequence[Found],
    *,
    class_names: Mapping[Any, Any] | None,
    class_map: Mapping[Any, Any] | None,
    way: Way,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    duplicates: str,
    near_duplicates: str,
    near_distance: int,
) -> tuple[list[tuple[ListedImage, Found]], list[Duplicate]]:
    """The images that stay, each with its split, class and file name, by file name; and the duplicates.

    class_names, class_map: see ``layouts.classes_of``. duplicates: drop, fail or keep. near_duplicates:
    report or drop. Of equal images that of the test split stays, else that of val, else the first.

    Raises InputError for what the policies refuse, and where too little is left to split.
    """
    classes = classes_of((image.place.label for image in found), class_names, class_map)
    labels = [classes[image.place.label] for image in found]
    given = [image.place.split for image in found]

    twin_of = _equal_twins(found, given)
    if twin_of and duplicates == "fail":
        one, other = next(iter(twin_of.items()))
        raise InputError(
            f"{len(twin_of)} images are copies of others, such as '{found[one].source}' of '{found[other].source}'; "
            "params.yaml: prepare.duplicates is 'fail'"
        )
    kept = [i for i in range(len(found)) if duplicates != "drop" or i not in twin_of]
    candidates = [Candidate(labels[i], given[i], found[i].place.group, found[i].pixels) for i in kept]
    cut = assign(candidates, way, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    splits = dict(zip(kept, cut, strict=True))

    near = [
        (kept[i], kept[twin], bits)
        for i, twin, bits in near_pairs(
            [found[i].look for i in kept], [SPLITS.index(split) for split in cut], distance=near_distance
        )
        if found[kept[i]].pixels != found[kept[twin]].pixels
    ]
    table = [
        Duplicate(
            kind=kind,
            source=found[i].source,
            split=splits.get(i, given[i]),
            label=labels[i],
            twin=found[twin].source,
            twin_split=splits[twin],
            twin_label=labels[twin],
            differing_bits=bits,
            dropped=dropped,
        )
        for kind, dropped, pairs in (
            ("equal", duplicates == "drop", [(i, twin, 0) for i, twin in twin_of.items()]),
            ("near", near_duplicates == "drop", near),
        )
        for i, twin, bits in sorted(pairs)
    ]
    if near_duplicates == "drop":
        for i, _, _ in near:
            del splits[i]
        for label in sorted(set(labels) - {labels[i] for i, split in splits.items() if split == "train"}):
            raise InputError(
                f"class '{label}' has no image to train on once near duplicates are dropped; "
                "see params.yaml: prepare.near_duplicates"
            )
        if "val" not in splits.values():
            raise InputError(
                "the val split has no image once near duplicates are dropped; see params.yaml: prepare.near_duplicates"
            )
    return _named(found, labels, splits), table


def _equal_twins(found: Sequence[Found], given: Sequence[str]) -> dict[int, int]:
    """For each image that is a copy, the one that stays in its place."""
    twin_of: dict[int, int] = {}
    for group in equal_groups(image.pixels for image in found):
        best = max(group, key=lambda i: (SPLITS.index(given[i] or "train"), -i))
        twin_of |= dict.fromkeys((i for i in group if i != best), best)
    return twin_of


def _named(found: Sequence[Found], labels: Sequence[str], splits: Mapping[int, str]) -> list[tuple[ListedImage, Found]]:
    """File names: the source's own or, where two of one class and split have the same, its whole path."""
    short = {i: f"{split}/{labels[i]}/{PurePosixPath(found[i].source).name}" for i, split in splits.items()}
    counts = Counter(short.values())
    images: dict[str, tuple[ListedImage, Found]] = {}
    for i, split in splits.items():
        one = found[i]
        file = short[i] if counts[short[i]] == 1 else f"{split}/{labels[i]}/{one.source.replace('/', '_')}"
        if file in images:
            raise InputError(f"'{images[file][1].source}' and '{one.source}' would both be {file}; rename one")
        facts = {name: getattr(one, name) for name in ("source", "width", "height", "bytes", "sha256", "pixels")}
        images[file] = (ListedImage(file=file, split=split, label=labels[i], group=one.place.group, **facts), one)
    return [images[file] for file in sorted(images)]


def summary(
    images: Sequence[ListedImage], rejected: Sequence[Rejected], duplicates: Sequence[Duplicate]
) -> dict[str, Any]:
    """What a reader wants to know first; plain numbers, for ``dvc metrics``."""
    per_class: dict[str, dict[str, int]] = {}
    for (label, split), count in sorted(Counter((p.label, p.split) for p in images).items()):
        per_class.setdefault(label, dict.fromkeys(SPLITS, 0))[split] = count
    equal = [pair for pair in duplicates if pair.kind == "equal"]
    near = [pair for pair in duplicates if pair.kind == "near"]
    return {
        "images": {"all": len(images), **{split: sum(p.split == split for p in images) for split in SPLITS}},
        "classes": per_class,
        "pixels": {
            side: {"min": min(lengths), "median": median(lengths), "max": max(lengths)}
            for side, lengths in (
                ("width", [image.width for image in images]),
                ("height", [image.height for image in images]),
            )
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
            "near_across_splits": len(near),
            "dropped": {split: sum(p.dropped and p.split == split for p in duplicates) for split in SPLITS}
            | {"before_the_cut": sum(p.dropped and not p.split for p in duplicates)},
        },
    }


def write_tree(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """A file for each image, ``<split>/<class>/<name>``: easy to browse, slow for DVC where there are thousands."""
    for file, content in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def write_tars(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """A tar for each split, ``<split>.tar``, with ``<class>/<name>`` in it. The files come sorted."""
    for split, members in groupby(files, key=lambda file: file[0].partition("/")[0]):
        write_tar(folder / f"{split}.tar", ((file.partition("/")[2], content) for file, content in members))


FORMATS: dict[str, Callable[[Path, Iterable[tuple[str, bytes]]], None]] = {"tree": write_tree, "tar": write_tars}


def contents(spool: Path, images: Iterable[tuple[ListedImage, Found]]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file, the bytes from where they were put when the archive was read."""
    with spool.open("rb") as file:
        for image, found in images:
            file.seek(found.offset)
            yield image.file, file.read(found.bytes)
