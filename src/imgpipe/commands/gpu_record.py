"""The record that ``imgpipe gpu-check`` leaves and ``imgpipe doctor`` reads: whether it passed here, and of what."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from imgpipe.common.files import digest_of, write_text
from imgpipe.train.locks import CHECKPOINTS

RECORD = CHECKPOINTS / "gpu-check.json"
"""In the project's folder, on this machine alone: neither Git nor DVC tracks it."""


@dataclass(frozen=True)
class Record:
    """How the last check ended, and of what it was."""

    passed: bool
    gpus: list[str]
    """The name of each GPU, in torch's order."""
    torch: str
    """Version."""
    code: str
    """What ``code_digest`` returned."""
    when: str
    """Date and time, to the minute."""


def code_digest() -> str:
    """Return a digest of this package's source."""
    return digest_of(Path(__file__).parents[1])


def write_record(folder: Path, *, passed: bool, gpus: Sequence[str], torch: str) -> None:
    """Write how a check of this code ended just now, in place of an earlier one's record.

    folder: the project's.
    gpus: the name of each GPU, in torch's order.
    torch: its version.
    """
    record = Record(passed, list(gpus), torch, code_digest(), f"{datetime.now():%Y-%m-%d %H:%M}")
    write_text(folder / RECORD, json.dumps(asdict(record), indent=2) + "\n")


def read_record(folder: Path) -> Record | None:
    """Read the record of the last check; None where there is none, or one of another form.

    folder: the project's.
    """
    try:
        return Record(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
