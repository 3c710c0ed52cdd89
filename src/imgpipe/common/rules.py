"""What a parameter must be beyond its type. ``str()`` of a rule says it, to stand after "it must be"."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A number from ``low`` to ``high``, each end included unless it is open. NaN and infinity are in no interval.

    >>> str(Interval(0, 1, open_high=True))
    'a number at least 0 and below 1'
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def allows(self, value: float | None) -> bool:
        if value is None:
            return True  # a null gets this far only where the type has it
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        ends = [f"{'above' if self.open_low else 'at least'} {self.low:.10g}"] if math.isfinite(self.low) else []
        ends += [f"{'below' if self.open_high else 'at most'} {self.high:.10g}"] if math.isfinite(self.high) else []
        return " ".join(["a number", " and ".join(ends)])


@dataclass(frozen=True)
class OneOf:
    """One of some values; a function that lists them where listing takes time."""

    values: Iterable[Any] | Callable[[], Iterable[Any]]

    def list(self) -> list[Any]:
        return list(self.values() if callable(self.values) else self.values)

    def allows(self, value: Any) -> bool:
        return value in self.list()

    def __str__(self) -> str:
        return one_of(self.list())


@dataclass(frozen=True)
class AutoOrCount:
    """``auto``, or a whole number of at least ``low``."""

    low: int

    def allows(self, value: Any) -> bool:
        return value == "auto" or (type(value) is int and value >= self.low)

    def __str__(self) -> str:
        return f"auto or a whole number of at least {self.low}"


@dataclass(frozen=True)
class PowerOfTwo:
    """1, 2, 4, 8 and so on."""

    def allows(self, value: int) -> bool:
        return value > 0 and value & (value - 1) == 0

    def __str__(self) -> str:
        return "a power of two (1, 2, 4, 8, ...)"


@dataclass(frozen=True)
class Rising:
    """A list of whole numbers of at least ``low``, each above the one before it."""

    low: int

    def allows(self, value: Sequence[int]) -> bool:
        numbers = list(value)
        return bool(numbers) and numbers[0] >= self.low and all(a < b for a, b in pairwise(numbers))

    def __str__(self) -> str:
        return f"a list of whole numbers of at least {self.low}, each above the one before it"


@dataclass(frozen=True)
class Sha256:
    """The SHA-256 of a file, or null."""

    def allows(self, value: str | None) -> bool:
        return value is None or re.fullmatch("[0-9a-fA-F]{64}", value) is not None

    def __str__(self) -> str:
        return "64 hexadecimal digits"


@dataclass(frozen=True)
class PathPattern:
    """``auto``, or a regular expression with some of these named groups, the first of which it must have."""

    groups: tuple[str, ...]

    def allows(self, value: str) -> bool:
        try:
            named = set(re.compile(value).groupindex)
        except (re.error, OverflowError, RecursionError):
            return False
        return value == "auto" or (self.groups[0] in named and named <= set(self.groups))

    def __str__(self) -> str:
        needed, *others = (f"(?P<{group}>...)" for group in self.groups)
        return f"auto or a regular expression with a group {needed} and, at will, {' and '.join(others)}"


@dataclass(frozen=True)
class LabelNames:
    """A name for each label, ``{0: cat, 1: dog}``, or null."""

    def allows(self, value: Any) -> bool:
        return value is None or (isinstance(value, Mapping) and all(isinstance(n, str) for n in value.values()))

    def __str__(self) -> str:
        return "names by label such as {0: cat, 1: dog}, or null"


@dataclass(frozen=True)
class NumbersByName:
    """A number above 0 for each of some names, ``{cat: 2.0}``."""

    def allows(self, value: Any) -> bool:
        numbers = list(value.values()) if isinstance(value, Mapping) else []
        return bool(numbers) and all(type(n) in (int, float) and 0 < n < math.inf for n in numbers)

    def __str__(self) -> str:
        return "numbers above 0 by name such as {cat: 2.0}"


@dataclass(frozen=True)
class LabelLists:
    """A list of labels for each class, and ``rest`` for one class at most, or null."""

    rest: str

    def allows(self, value: Any) -> bool:
        if value is None:
            return True
        listed = list(value.values()) if isinstance(value, Mapping) else [None]
        lists = [labels for labels in listed if labels != self.rest]
        return (
            len(listed) - len(lists) <= 1
            and all(isinstance(labels, Sequence) for labels in lists)
            and not any(isinstance(labels, str) for labels in lists)
        )

    def __str__(self) -> str:
        return f"lists of labels by class such as {{pet: [cat, dog], other: {self.rest}}}, or null"


@dataclass(frozen=True)
class Choice:
    """A section that names one function of a table and gives its keyword arguments: ``{name: sgd, lr: 0.1}``."""

    table: Mapping[str, Callable[..., Any]]


def one_of(values: Iterable[Any]) -> str:
    """The values as a phrase, the middle left out where there are many.

    >>> one_of(["best", "last"])
    'best or last'
    """
    names = [str(value) for value in values]
    if len(names) > 12:
        return f"one of {', '.join(names[:4])}, ... ({len(names)} in all)"
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
