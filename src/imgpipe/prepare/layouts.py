"""What an image's path says: its class and, where the path names them, its split and its group."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from imgpipe.common.errors import InputError
from imgpipe.data.archives import FOLDERS

GROUPS = ("label", "split", "group")
REST = "rest"


@dataclass(frozen=True)
class Place:
    """What the path says. An empty split or group: the path names none."""

    label: str
    split: str
    group: str


def place(name: str, pattern: str) -> Place:
    """Reads a path by a pattern: a regular expression with named groups label and, at will, split and group; or auto.

    The pattern is searched for in the whole path; auto reads ``[split/]...class/file``, at any depth.

    >>> place("food/training/3_120.jpg", r"(?P<split>[^/]+)/(?P<label>[0-9]+)_")
    Place(label='3', split='train', group='')
    >>> place("pets/validation/indoors/cat/1.jpg", "auto")
    Place(label='cat', split='val', group='')

    Raises InputError, with the reason, where the path has no class or a split that is none.
    """
    if pattern == "auto":
        return _by_folders(name)
    found = re.search(pattern, name)
    if not found or not found["label"]:
        raise InputError("prepare.pattern finds no label in its path")
    parts = {"split": "", "group": "", **{key: value or "" for key, value in found.groupdict().items()}}
    split = parts["split"].lower()
    if split and split not in FOLDERS:
        raise InputError(f"its path names the split '{split}', which is none of {', '.join(FOLDERS)}")
    return Place(parts["label"], FOLDERS.get(split, ""), parts["group"])


def _by_folders(name: str) -> Place:
    *folders, label = PurePosixPath(name).parts[:-1] or ("",)
    if not label:
        raise InputError("it is in no folder, which would name its class")
    if label.lower() in FOLDERS:
        raise InputError(f"it is in '{label}', which names a split, and in no folder below, which would name its class")
    given = [FOLDERS[folder.lower()] for folder in folders if folder.lower() in FOLDERS]
    return Place(label, given[-1] if given else "", "")


def classes_of(
    labels: Iterable[str], names: Mapping[Any, Any] | None, merged: Mapping[object, object] | None
) -> dict[str, str]:
    """The class of each label that occurs: its name (or itself), which may be one of those merged into a class.

    names: name of each label, ``{0: bread, 1: egg}``.
    merged: lists of labels, by name where they have names, for each class; the word rest for all others:
        ``{pet: [cat, dog], other: rest}``.

    Raises InputError for a label without a name or class, one that is listed but does not occur, and for a class that
    can't be a folder.
    """
    occurring = sorted(set(labels))
    classes = {label: label for label in occurring}
    if names is not None:
        known = {str(key): str(value) for key, value in names.items()}
        for label in occurring:
            if label not in known:
                raise InputError(_unknown("class_names", "has no name for", label, known))
        classes = {label: known[label] for label in occurring}
    if merged is not None:
        classes = {label: _merged(name, merged, list(classes.values())) for label, name in classes.items()}
    for name in classes.values():
        if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
            raise InputError(f"a class can't be named '{name}': it is a folder's name; see params.yaml: prepare")
    return classes


def _merged(name: str, merged: Mapping[Any, Any], occurring: Sequence[str]) -> str:
    into: dict[str, str] = {}
    for target, listed in merged.items():
        for label in listed if isinstance(listed, list) else ():
            if str(label) not in occurring:
                raise InputError(_unknown("class_map", f"lists under '{target}' what no image has:", label, occurring))
            if into.setdefault(str(label), str(target)) != str(target):
                raise InputError(f"params.yaml: prepare.class_map lists '{label}' under two classes")
    rest = [str(target) for target, listed in merged.items() if listed == REST]
    if name not in into and not rest:
        raise InputError(_unknown("class_map", f"has no class for (nor a class with the word {REST}):", name, into))
    return into.get(name, rest[0] if rest else "")


def _unknown(key: str, trouble: str, label: object, known: Iterable[str]) -> str:
    near = get_close_matches(str(label), list(known), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"params.yaml: prepare.{key} {trouble} label '{label}'{hint}"
