"""``imgpipe verify``: compare what a rerun of the whole pipeline made with what is committed."""

import json
import subprocess
from pathlib import Path

import typer

from imgpipe.common.errors import InputError

LOCK = "dvc.lock"
METRICS = "metrics/test/metrics.json"


def verify() -> None:
    """Say whether every output in dvc.lock is the one committed.

    The exit status is 1 if not, and each metric is shown with how far it moved. To be run in the project's top folder,
    after dvc repro --force: make verify does both.
    """
    if not Path(LOCK).is_file():
        raise InputError(f"there is no {LOCK} in {Path.cwd()}; run this in the project's top folder, after dvc repro")
    committed, made = _outputs(_committed(LOCK)), _outputs(Path(LOCK).read_text(encoding="utf-8"))
    moved = [path for path in {**committed, **made} if committed.get(path) != made.get(path)]
    if not moved:
        typer.echo(f"identical: all {len(made)} outputs are those committed")
        return
    typer.echo("not identical: " + ", ".join(moved))
    before, after = json.loads(_committed(METRICS)), json.loads(Path(METRICS).read_text(encoding="utf-8"))
    for name, value in after.items():
        was = before.get(name)
        line = f"  {name:20} {was} -> {value}"
        if name not in before:
            line += "  (new)"
        elif isinstance(was, int | float) and isinstance(value, int | float):  # not null
            line += f"  ({value - was:+.6f})"
        typer.echo(line)
    typer.echo("Another kind of processor or other packages round otherwise. Back to what is committed: "
               f"git checkout {LOCK} {METRICS}")  # fmt: skip
    raise typer.Exit(1)


def _committed(file: str) -> str:
    """Return the text of a file in Git's last commit. Raises InputError where it has none."""
    shown = subprocess.run(["git", "show", f"HEAD:{file}"], capture_output=True, encoding="utf-8", check=False)
    if shown.returncode:
        raise InputError(f"Git's last commit has no {file}, so there is nothing to compare with; git commit it first")
    return shown.stdout


def _outputs(lock: str) -> dict[str, str]:
    """Return the path and the hash of each output in the text of a dvc.lock."""
    from omegaconf import OmegaConf  # slow to import: see __main__.py

    stages = OmegaConf.create(lock).stages.values()
    return {out.path: out.md5 for stage in stages for out in stage.get("outs", [])}
