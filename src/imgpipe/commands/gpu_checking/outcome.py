"""What ``imgpipe gpu-check`` says of one check."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Facts = dict[str, Any]
"""What a part found, as JSON has it."""


class Name(StrEnum):
    """The checks, in their order."""

    FACTS = "facts"
    OPERATORS = "operators"
    SYNCS = "syncs"
    CARDS = "cards"
    BITS = "bits"
    EXCHANGE = "exchange"
    SPEED = "speed"
    FAILURES = "failures"


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "FAILED"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Outcome:
    """How a check ended."""

    status: Status
    text: str
    """What was found, or why the check was left out."""
    remedy: str | None = None
    """What to do, where something falls short."""
    found: Facts = field(default_factory=dict)
    """Every number, digest and message, for a report."""


def judged(problems: list[str], passed: str, remedy: str, found: Facts) -> Outcome:
    """Return the outcome of a check that passed, unless there are problems."""
    if problems:
        return Outcome(Status.FAILED, "; ".join(problems), remedy, found)
    return Outcome(Status.PASSED, passed, found=found)
