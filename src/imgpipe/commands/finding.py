"""What ``imgpipe doctor`` says of one thing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that the pipeline stands on, and how it is."""

    subject: str
    text: str
    remedy: str | None = None
    """What to do, where it is wrong; None where it is right."""
