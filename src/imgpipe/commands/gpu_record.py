"""The record that ``imgpipe gpu-check`` leaves and ``imgpipe doctor`` reads: whether it passed here, and of what."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from imgpipe.commands.finding import Finding
from imgpipe.common.files import digest_of, write_text
from imgpipe.train.locks import CHECKPOINTS

RECORD = CHECKPOINTS / "gpu-check.json"
"""In the project's folder, on this machine alone: neither Git nor DVC tracks it."""
CHECKS = "imgpipe gpu-check does it in about ten minutes"


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


def checked(record: Record | None, gpus: list[str], *, torch: str, code: str) -> Finding:
    """Say whether ``imgpipe gpu-check`` has passed here: nothing else has run imgpipe's GPU path on such a machine.

    record: of the last check.
    gpus, torch, code: those of now, as in a record.
    """
    if record is None:
        return Finding("GPU check", f"how imgpipe works on GPUs has not been checked on this machine; {CHECKS}")
    kinds = ", ".join(f"{count} x {name}" for name, count in Counter(record.gpus).items())
    of = f"on {record.when}, with {kinds}, torch {record.torch} and imgpipe's code {record.code[:8]}"
    outcome = "passed" if record.passed else "failed"
    now = {"GPUs": record.gpus == gpus, "torch": record.torch == torch, "code": record.code == code}
    others = [what for what, same in now.items() if not same]
    if others:
        return Finding(
            "GPU check", f"{outcome} {of}, and not with what is here now (other {', '.join(others)}); {CHECKS}"
        )
    return Finding("GPU check", f"{outcome} {of}", None if record.passed else "imgpipe gpu-check says in what")
