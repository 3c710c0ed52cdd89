"""Write what a model answers as text: a table for people, CSV and JSON for programs."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Self

from rich.cells import cell_len

from imgpipe.common.files import table_text
from imgpipe.common.safe_text import printable


@dataclass(frozen=True)
class Answer:
    """What is on an image."""

    file: str

    classes: list[tuple[str, float]]
    """The classes that are named, with their probabilities, the likeliest first."""

    @classmethod
    def of(
        cls, file: str, probabilities: Sequence[float], classes: Sequence[str], top: int | None, at_least: float
    ) -> Self:
        """Choose the ``top`` likeliest classes, or all; of equal ones the first in the order of the classes.

        probabilities: one for each class.
        at_least: the probability below which a class is not among them.
        """
        order = sorted(range(len(classes)), key=lambda c: -probabilities[c])
        named = [c for c in order[:top] if probabilities[c] >= at_least]
        return cls(file, [(classes[c], round(probabilities[c], 6)) for c in named])


def as_table(answers: Sequence[Answer], top: int | None) -> str:
    """Return aligned columns, with confidence in percent.

    top: how many classes there are columns for; None for sets, of which each is one cell.
    """
    rows = [[name.replace("_", " ") for name in _columns(top)] if top else ["file", "set"]]
    for answer in answers:
        shown = [(printable(name), f"{sure:.1%}") for name, sure in answer.classes] or [(nothing(top), "")]
        beside = [cell for name, sure in shown for cell in (name, sure.rjust(6))]
        rows.append([printable(readable(answer.file)), *(beside if top else [", ".join(map(" ".join, shown))])])
    columns = list(zip_longest(*rows, fillvalue=""))
    widths = [max(map(cell_len, column)) for column in columns]
    lines = ("  ".join(map(_padded, row, widths)) for row in zip(*columns, strict=True))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def as_csv(answers: Sequence[Answer], top: int | None) -> str:
    """Return the columns ``file``, ``predicted``, ``confidence``, then ``predicted_2``, ``confidence_2`` and so on.

    top: how many classes there are columns for, whose cells are empty where fewer are named; None for sets. These have
        the columns ``file``, ``classes`` and ``confidences``, whose cells are lists in JSON.
    """
    if top:
        names = _columns(top)
        rows = [[readable(a.file), *(cell for answer in a.classes for cell in answer)] for a in answers]
    else:
        names = ["file", "classes", "confidences"]
        rows = [
            [readable(a.file), _as_list(c for c, _ in a.classes), _as_list(p for _, p in a.classes)] for a in answers
        ]
    return table_text(names, (dict(zip(names, row, strict=False)) for row in rows))


def as_json(answers: Sequence[Answer], top: int | None) -> str:
    """Return a list of objects: ``file``, and ``top``, or ``set``, a list of ``class`` and ``confidence``.

    top: how many classes are named at most; None for sets.
    """
    key = "top" if top else "set"
    listed = [
        {"file": readable(a.file), key: [{"class": name, "confidence": sure} for name, sure in a.classes]}
        for a in answers
    ]
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"


def nothing(top: int | None) -> str:
    """Return what the table and the grid say where no class is named; ``top`` is None for sets."""
    return "none of these" if top else "empty set"


def _columns(top: int) -> list[str]:
    further = (f"{name}_{place}" for place in range(2, top + 1) for name in ("predicted", "confidence"))
    return ["file", "predicted", "confidence", *further]


def _as_list(values: Iterable[str | float]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))  # some characters are two columns wide


def readable(path: str) -> str:
    """Return a path as text that can be written in UTF-8: bytes of it that are no UTF-8 become ``\\x..``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
