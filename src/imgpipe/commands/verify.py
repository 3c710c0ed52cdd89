"""The command ``imgpipe verify``, the end of ``make verify``: is what a rerun made the same as what is committed?"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from imgpipe.common.errors import InputError

LOCK = "dvc.lock"
METRICS = ("metrics/val/metrics.json", "metrics/test/metrics.json")
WHERE = "run this in the project's top folder, with the results committed"


def verify() -> None:
    """Say whether every output in dvc.lock is the one committed, and if not, why, and how far each metric moved.

    The exit status is then 1. To be run in the project's top folder, after dvc repro --force.
    """
    from imgpipe.commands.causes import causes, outputs  # not on top: `imgpipe --help` would wait for OmegaConf

    before, after = _stages(_committed(LOCK)), _stages(_made(LOCK))
    committed, made = outputs(before), outputs(after)
    moved = [path for path in {**committed, **made} if committed.get(path) != made.get(path)]
    if not moved:
        typer.echo(f"identical: all {len(made)} outputs are those committed")
        return
    typer.echo("not identical: " + ", ".join(moved))
    for cause in causes(before, after):
        typer.echo(f"why: {cause}")
    for file in METRICS:
        typer.echo(f"{file}:")
        _say_how_far(json.loads(_committed(file)), json.loads(_made(file)))
    typer.echo(f"Back to what is committed: git checkout {LOCK} {' '.join(METRICS)}")
    raise typer.Exit(1)


def _say_how_far(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> None:
    """Print each metric as it was and as it is."""
    for name, value in after.items():
        was = before.get(name)
        line = f"  {name:20} {was} -> {value}"
        if name not in before:
            line += "  (new)"
        elif was is not None and value is not None:
            line += f"  ({value - was:+.6f})"
        typer.echo(line)


def _committed(file: str) -> str:
    """Return the text of a file of this folder as it is in Git's last commit."""
    command = ["git", "show", f"HEAD:./{file}"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # there is no such program, or it has no such file
        raise InputError(f"Git has no {file} in its last commit here; {WHERE}") from None


def _made(file: str) -> str:
    """Return the text of a file of this folder as it is."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {file} in {Path.cwd()}; {WHERE}") from None


def _stages(lock: str) -> dict[str, Any]:
    """Return what the text of a dvc.lock says of each stage."""
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(OmegaConf.create(lock))
    stages: dict[str, Any] = content["stages"]
    return stages
