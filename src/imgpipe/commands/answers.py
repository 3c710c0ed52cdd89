"""Write what a model answers as text: a table for people, CSV and JSON for programs."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rich.cells import cell_len

from imgpipe.common.files import table_text


@dataclass(frozen=True)
class Answer:
    """What is on an image."""

    file: str

    classes: list[tuple[str, float]]
    """The likeliest classes with their probabilities, the likeliest first."""

    @classmethod
    def of(cls, file: str, probabilities: Sequence[float], classes: Sequence[str], top: int) -> Self:
        """Choose the ``top`` likeliest classes; of equal ones the first in the order of the classes.

        probabilities: one for each class.
        """
        order = sorted(range(len(classes)), key=lambda c: -probabilities[c])
        return cls(file, [(classes[c], round(probabilities[c], 6)) for c in order[:top]])


def as_table(answers: Sequence[Answer]) -> str:
    """Return aligned columns, with confidence in percent."""
    rows = [[name.replace("_", " ") for name in _columns(answers)]]
    for answer in answers:
        beside = [cell for name, sure in answer.classes for cell in (printable(name), f"{sure:.1%}".rjust(6))]
        rows.append([printable(readable(answer.file)), *beside])
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def as_csv(answers: Sequence[Answer]) -> str:
    """Return the columns ``file``, ``predicted``, ``confidence``, then ``predicted_2``, ``confidence_2`` and so on."""
    names = _columns(answers)
    rows = ([readable(a.file), *(cell for answer in a.classes for cell in answer)] for a in answers)
    return table_text(names, (dict(zip(names, row, strict=True)) for row in rows))


def as_json(answers: Sequence[Answer]) -> str:
    """Return a list of objects: ``file``, and ``top``, a list of ``class`` and ``confidence``."""
    listed = [
        {"file": readable(a.file), "top": [{"class": name, "confidence": sure} for name, sure in a.classes]}
        for a in answers
    ]
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"


def _columns(answers: Sequence[Answer]) -> list[str]:
    top = max((len(answer.classes) for answer in answers), default=1)
    further = (f"{name}_{place}" for place in range(2, top + 1) for name in ("predicted", "confidence"))
    return ["file", "predicted", "confidence", *further]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))  # some characters are two columns wide


def readable(path: str) -> str:
    """Return a path as text that can be written in UTF-8: bytes of it that are no UTF-8 become ``\\x..``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(name: str) -> str:
    """Return a name on one line, and without what would command a terminal.

    >>> printable("a\\nb é")
    'a\\\\nb é'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
