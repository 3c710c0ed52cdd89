"""What a parameter must be: its type, and what a type cannot say beside it, as in ``Annotated[int, Interval(low=1)]``.

A rule says itself in an error.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


@dataclass(frozen=True)
class Interval:
    """Allows the numbers from ``low`` to ``high``, each end included unless it is open; never NaN or infinity."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def allows(self, value: float) -> bool:
        """Return whether the number is in the interval."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return -math.inf < value < math.inf and above and below

    def says(self, number: str) -> str:
        """Return what the rule asks for, to stand after "it must be".

        number: what it is of: "a number" or "a whole number".

        >>> Interval(0, 1, open_high=True).says("a number")
        'a number at least 0 and below 1'
        """
        ends = [f"{'above' if self.open_low else 'at least'} {self.low:.10g}"] if math.isfinite(self.low) else []
        ends += [f"{'below' if self.open_high else 'at most'} {self.high:.10g}"] if math.isfinite(self.high) else []
        return " ".join([number, " and ".join(ends)])


@dataclass(frozen=True)
class Rule:
    """Allows what a function allows.

    text: what the rule asks for, to stand after "it must be"; a function where finding the words takes time.
    allows: is given a value of the annotated type.
    known: names that may have been meant where the value is refused.
    """

    text: str | Callable[[], str]
    allows: Callable[[Any], bool]
    known: Callable[[], Iterable[str]] = tuple

    def says(self, kind: str) -> str:
        """Return what the rule asks for, to stand after "it must be"; the kind of value goes without saying."""
        return self.text() if callable(self.text) else self.text


SHA256 = Rule("64 hexadecimal digits", lambda text: re.fullmatch("[0-9a-fA-F]{64}", text) is not None)
"""Allows the SHA-256 of a file."""


def one_of_table(table: Iterable[str]) -> Rule:
    """Make the rule that allows the names in a table."""
    return Rule(one_of(table), lambda name: name in table, lambda: table)


@dataclass(frozen=True)
class Choice:
    """Stands for a section that names one function of a table and gives the keyword arguments of every one.

    In the file: ``{name: sgd, sgd: {lr: 0.1}, adam: {lr: 0.001}}``. The value is the function with its arguments bound.
    """

    table: Mapping[str, Callable[..., Any]]


def one_of(values: Iterable[Any]) -> str:
    """Return the values as a phrase, the middle left out where there are many.

    >>> one_of(["best", "last"])
    'best or last'
    """
    names = [str(value) for value in values]
    if len(names) > 12:
        return f"one of {', '.join(names[:4])}, ... ({len(names)} in all)"
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def fits(value: Any, hint: Any) -> bool:
    """Return whether the value is of the annotated type and its rules allow it. Only an int may stand for a float."""
    if hint is Any:
        return True
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, args[0]) and all(rule.allows(value) for rule in args[1:])
    if origin in (Union, UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if origin is list:
        return isinstance(value, list) and all(fits(item, args[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, args[0]) and fits(v, args[1]) for k, v in value.items())
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # which NaN is not
    return type(value) is hint and not (hint is int and abs(value) >= 2**63)


def says(hint: Any) -> str:
    """Return what the annotation asks for, to stand after "it must be"."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " and ".join(rule.says(KINDS.get(args[0], "")) for rule in args[1:])
    if origin in (Union, UnionType):
        return " or ".join(says(arg) for arg in args)
    return one_of(args) if origin is Literal else KINDS[hint]


def known(hint: Any) -> Iterator[Iterable[Any]]:
    """Yield the names among which a misspelt value may have been meant."""
    if get_origin(hint) is Literal:
        yield get_args(hint)
    elif isinstance(hint, Rule):
        yield hint.known()
    else:
        for arg in get_args(hint):
            yield from known(arg)


def takes_floats(hint: Any) -> bool:
    """Return whether a whole number is to become a float."""
    return hint is float or any(takes_floats(arg) for arg in get_args(hint))
