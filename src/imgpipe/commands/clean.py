"""``imgpipe clean``: list the checkpoints of trainings that did not end, and remove those that are no more."""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.common.errors import InputError
from imgpipe.common.safe_text import printable
from imgpipe.model.runtime import DRIVER
from imgpipe.train.locks import CHECKPOINTS, taken

KEY = re.compile("[0-9a-f]{32}")
"""Of a training: how the names begin of its folder and of what was set aside."""
RESUMED = "Kept, since the next dvc repro resumes it:"
OTHERS = "Of other parameters, data, code or packages than the present ones:"
RUNS = Path("runs")


@dataclass(frozen=True)
class Unfinished:
    """What is there of a training that did not end."""

    key: str
    paths: list[Path]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return size_of(self.paths)

    def __str__(self) -> str:
        checkpoints = sorted(path for folder in self.paths for path in folder.glob("*.pt"))
        saved = max(path.stat().st_mtime for path in self.paths)
        place = _place(checkpoints[-1].stem) if checkpoints else "no checkpoint"
        return f"{self.key[:8]}  {datetime.fromtimestamp(saved):%Y-%m-%d %H:%M}  {megabytes(self.size):>12}  {place}"


def clean(
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove those of other parameters, data, code or packages.")
    ] = False,
) -> None:
    """List the checkpoints of trainings that did not end; with --yes remove those that the next dvc repro won't resume.

    Those of a training that runs are kept. To be run in the project's top folder.
    """
    found = unfinished(CHECKPOINTS)
    groups = grouped(found, resumable() if found else set())
    for title, some in groups.items():
        typer.echo(printable(title))
        for training in some:
            typer.echo(printable(f"  {training}"))
    others = groups.get(OTHERS, [])
    total = f"those of {len(others)} of {len(found)} trainings, {megabytes(sum(one.size for one in others))}"
    if not found:
        typer.echo(f"no checkpoints are left in {CHECKPOINTS}: every training has ended")
    elif yes:
        for training in others:
            remove(training)
        typer.echo(f"removed {total}")
    elif others:
        typer.echo(f"imgpipe clean --yes removes {total}")
    if runs := list(RUNS.glob("*")):
        typer.echo(f"{RUNS} has {megabytes(size_of(runs))} of times, traces and curves, which no training needs")


def unfinished(folder: Path) -> list[Unfinished]:
    """Find the trainings that have left anything in the folder of checkpoints, in the order of their keys."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*")):
        if (key := KEY.match(path.name)) and path.suffix != ".lock":
            found.setdefault(key[0], []).append(path)
    return [Unfinished(key, paths) for key, paths in found.items()]


def resumable() -> set[str]:
    """Return the keys of the trainings that the next ``dvc repro`` may resume, on the CPU and on the GPUs here.

    Raises InputError where that can't be told.
    """
    from imgpipe.train.keys import digests_of_inputs, key_of  # slow to import, and not needed by other commands

    try:
        digests = digests_of_inputs("train", device="cpu")
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename} is not there, so it can't be told which training would be resumed; run dvc repro pack, "
            "or dvc checkout"
        ) from None
    return {key_of({**digests, "device": device}) for device in ("cpu", *gpus())}


def gpus() -> list[str]:
    """Describe the GPUs of this machine as a training's key has them."""
    if not DRIVER.exists():
        return []  # without the seconds that torch takes to import
    import torch

    from imgpipe.model.devices import described

    return [described(torch.device("cuda", i)) for i in range(torch.cuda.device_count())]


def grouped(found: Iterable[Unfinished], resumed: set[str]) -> dict[str, list[Unfinished]]:
    """Sort trainings by what is to become of them, in words: first those that are kept.

    resumed: keys of those that will be resumed.
    """
    groups: dict[str, list[Unfinished]] = {}
    for training in found:
        with taken(_lock(training)) as holder:
            pass
        title = f"Kept, since {holder} is at it:" if holder else RESUMED if training.key in resumed else OTHERS
        groups.setdefault(title, []).append(training)
    return dict(sorted(groups.items()))


def remove(training: Unfinished) -> None:
    """Remove what is there of a training, unless one has begun it meanwhile."""
    with taken(_lock(training)) as holder:
        for path in training.paths if holder is None else []:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def size_of(paths: Iterable[Path]) -> int:
    """Sum up the bytes of files, and of those in folders."""
    files = (file for path in paths for file in (path, *path.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files)


def megabytes(size: int) -> str:
    """Write a number of bytes.

    >>> megabytes(1_250_000)
    '1.2 MB'
    """
    return f"{size / 1e6:,.1f} MB"


def _lock(training: Unfinished) -> Path:
    return CHECKPOINTS / f"{training.key}.lock"


def _place(name: str) -> str:
    """Say where a checkpoint is in its training, by its name: epochs done, and steps of the next one."""
    epochs, _, step = name.partition("-")
    if not (epochs.isdecimal() and step.isdecimal()):
        return name
    return f"in epoch {int(epochs) + 1}, after step {int(step)}" if int(step) else f"after epoch {int(epochs)}"
