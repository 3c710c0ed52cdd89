"""Read what an image's path says: its class and, where the path names them, its split and its group."""

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from unicodedata import normalize

from imgpipe.common.errors import InputError, did_you_mean
from imgpipe.data.archives import LONGEST_NAME, SPLIT_OF_FOLDER

GROUPS = ("label", "split", "group")
"""Groups that a pattern may name; it must name the first."""
REST = "rest"
"""The word that stands, in place of a list of labels, for all that are in no list."""


@dataclass(frozen=True)
class PathParts:
    """What a path, or the row of a table in its place, says of an image."""

    label: str
    split: str
    """train, val or test; empty where none is named."""
    group: str
    """Empty where none is named."""


def read_path(path: str, pattern: str) -> PathParts:
    """Return the label, split and group that a path names.

    pattern: a regular expression with the named groups label and, at will, split and group, which may match anywhere in
        the path; or auto, which reads ``[split/]...class/file`` at any depth.

    >>> read_path("food/training/3_120.jpg", r"(?P<split>[^/]+)/(?P<label>[0-9]+)_")
    PathParts(label='3', split='train', group='')
    >>> read_path("pets/validation/indoors/cat/1.jpg", "auto")
    PathParts(label='cat', split='val', group='')

    Raises InputError, with the reason, where the path has no label or names a split that is none.
    """
    if pattern == "auto":
        return _read_folders(path)
    found = re.search(pattern, path)
    if not found:
        raise InputError(f"prepare.pattern '{pattern}' matches no part of its path")
    if not found["label"]:
        raise InputError(f"prepare.pattern '{pattern}' matches '{found[0]}' of its path, where its label is empty")
    parts = {"split": "", "group": "", **{key: value or "" for key, value in found.groupdict().items()}}
    split = parts["split"].lower()
    if split and split not in SPLIT_OF_FOLDER:
        raise InputError(f"its path names the split '{split}', which is none of {', '.join(SPLIT_OF_FOLDER)}")
    return PathParts(parts["label"], SPLIT_OF_FOLDER.get(split, ""), parts["group"])


def _read_folders(path: str) -> PathParts:
    *folders, label = PurePosixPath(path).parts[:-1] or ("",)
    if not label:
        raise InputError("it is in no folder, which would name its class")
    if label.lower() in SPLIT_OF_FOLDER:
        raise InputError(f"it is in '{label}', which names a split, and in no folder below, which would name its class")
    return PathParts(label, _split_of(folders), "")


def split_of_folders(path: str) -> str:
    """Return the split that the folders of a path name, the last that does; nothing where none does."""
    return _split_of(PurePosixPath(path).parts[:-1])


def _split_of(folders: Sequence[str]) -> str:
    splits = [SPLIT_OF_FOLDER[folder.lower()] for folder in folders if folder.lower() in SPLIT_OF_FOLDER]
    return splits[-1] if splits else ""


def classes_of(
    labels: Iterable[str], class_names: Mapping[Any, Any] | None, class_map: Mapping[Any, Any] | None
) -> dict[str, str]:
    """Return the class of each label that occurs: its name or itself, or the class into which that is merged.

    class_names: name of each label, ``{0: bread, 1: egg}``.
    class_map: lists of labels, by name where they have names, for each class; the word rest for all others:
        ``{pet: [cat, dog], other: rest}``.

    Raises InputError for a label without a name or class, for one that is listed but does not occur, and for a class
    that can't be a folder.
    """
    occurring = sorted(set(labels))
    classes = {label: label for label in occurring}
    if class_names is not None:
        known = {str(label): str(name) for label, name in class_names.items()}
        for label in occurring:
            if label not in known:
                raise _unknown("class_names", "has no name for", label, known)
        classes = {label: known[label] for label in occurring}
    if class_map is not None:
        merged = _merged(set(classes.values()), class_map)
        classes = {label: merged[name] for label, name in classes.items()}
    for name in classes.values():
        if len(name.encode()) > LONGEST_NAME:
            raise InputError(
                f"a class can't be named '{name[:40]}...', of {len(name.encode()):,} bytes: it is a folder's name, "
                f"which has {LONGEST_NAME} at most; see params.yaml: prepare"
            )
        if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
            raise InputError(f"a class can't be named '{name}': it is a folder's name; see params.yaml: prepare")
    return _in_one_form(classes)


def _in_one_form(classes: Mapping[str, str]) -> dict[str, str]:
    """Return the classes with those merged, and said, whose names differ in their Unicode form alone.

    An é is one character or an e and an accent, as the system has it on which a folder was made. A form of which there
    is no other stays as it is.
    """
    forms: dict[str, set[str]] = {}
    for name in classes.values():
        forms.setdefault(normalize("NFC", name), set()).add(name)
    for composed, names in sorted(forms.items()):
        if len(names) > 1:
            logging.warning(
                "class '%s' is written in %d Unicode forms, which look the same: %s; they are taken for one class",
                composed,
                len(names),
                ", ".join(map(ascii, sorted(names))),
            )
    merged = {name: composed for composed, names in forms.items() if len(names) > 1 for name in names}
    return {label: merged.get(name, name) for label, name in classes.items()}


def _merged(names: Collection[str], class_map: Mapping[Any, Any]) -> dict[str, str]:
    """Return the class into which each name is merged."""
    classes: dict[str, str] = {}
    rest = None
    for target, listed in class_map.items():
        if listed == REST:
            rest = str(target)
            continue
        for name in map(str, listed):
            if name not in names:
                raise _unknown("class_map", f"lists under '{target}' what no image has:", name, names)
            if classes.setdefault(name, str(target)) != str(target):
                raise InputError(f"params.yaml: prepare.class_map lists '{name}' under two classes")
    for name in sorted(set(names) - set(classes)):
        if rest is None:
            raise _unknown("class_map", f"has no class for (nor a class with the word {REST}):", name, classes)
        classes[name] = rest
    return classes


def _unknown(key: str, trouble: str, label: str, known: Iterable[str]) -> InputError:
    meant = did_you_mean(label, known)
    return InputError(f"params.yaml: prepare.{key} {trouble} label '{label}'{meant}")
