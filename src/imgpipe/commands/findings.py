"""What was found out about the machine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that the pipeline stands on, and how it is.

    remedy: what to do, where it is wrong; None where it is right.
    """

    subject: str
    text: str
    remedy: str | None = None


def gib(count: float) -> str:
    """Bytes in GiB.

    >>> gib(3 * 2**29)
    '1.5 GiB'
    """
    return f"{count / 2**30:.1f} GiB"
