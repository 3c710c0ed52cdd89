"""Compares what a rerun of the whole pipeline made with what Git has: ``make verify``.

Exit status 0 if every output is identical; 1, with how far each metric moved, if not.
"""

import json
import subprocess
from pathlib import Path

import typer
from omegaconf import OmegaConf

LOCK = "dvc.lock"
METRICS = "metrics/test/metrics.json"


def verify() -> None:
    """Say whether every output in dvc.lock is the one committed."""
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
    return subprocess.run(["git", "show", f"HEAD:{file}"], capture_output=True, text=True, check=True).stdout


def _outputs(lock: str) -> dict[str, str]:
    """Path and hash of each output, from the text of a dvc.lock."""
    stages = OmegaConf.create(lock).stages.values()
    return {out.path: out.md5 for stage in stages for out in stage.get("outs", [])}


if __name__ == "__main__":
    typer.run(verify)
