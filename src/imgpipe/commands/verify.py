"""The command ``imgpipe verify``: does a rerun make what is committed; and what was a model made from?"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.commands.last_commit import LOCK, METRICS, committed, made, stages
from imgpipe.common.errors import InputError
from imgpipe.common.safe_text import printable

# What is imported within functions waits for hydra-zen and OmegaConf, which `imgpipe --help` need not.

MODEL = Path("models/classifier.safetensors")
BACK = f"git checkout {LOCK} metrics"


def verify(
    model: Annotated[Path | None, typer.Argument(help="A model file, such as models/classifier.safetensors.")] = None,
    remake: Annotated[
        bool, typer.Option("--remake", help="Run the pipeline again and compare the two models.")
    ] = False,
    statement: Annotated[bool, typer.Option("--statement", help="Print it as an in-toto Statement, in JSON.")] = False,
) -> None:
    """Say whether a rerun made what is committed, or what a model was made from and whether that is the same here.

    Without MODEL, after dvc repro --force: whether every output in dvc.lock is the one committed, and if not, why, and
    how far each metric moved. With it: data, code, parameters, packages, kernels and commit, and what differs in each.
    The exit status is 1 where something does. To be run in the project's top folder.
    """
    if model is None:
        if remake or statement:
            option = "--remake" if remake else "--statement"
            raise InputError(f"{option} is of a model; name its file: imgpipe verify {MODEL} {option}")
        _verify_outputs()
    elif statement:
        if remake:
            raise InputError("--statement prints what the file says and --remake runs the pipeline; take one of them")
        from imgpipe.commands.provenance import read_model
        from imgpipe.commands.statement import statement_of

        typer.echo(json.dumps(statement_of(read_model(model)), indent=2))
    else:
        _verify_model(model, remake=remake)


def _verify_model(path: Path, *, remake: bool) -> None:
    """Say what the model was made from and how that is here, and where it is made again whether it is the same."""
    from imgpipe.commands.provenance import SAME, UNKNOWN, compared, read_model
    from imgpipe.common.files import sha256_of

    model = read_model(path)  # before the pipeline runs, which may replace this very file
    if remake:
        _run_pipeline()
    same = True
    for item in compared(model):
        typer.echo(printable(f"{item.state:8} {item.name:11} {item.text}"))
        same &= item.state in (SAME, UNKNOWN)
    if remake and sha256_of(MODEL) == model.sha256:
        typer.echo(f"identical: made again, it has SHA-256 {model.sha256}")
    elif remake:
        same = False
        typer.echo("not identical")
        for split, file in METRICS.items():
            typer.echo(f"{file}:")
            _say_how_far(model.made_from["metrics"][split], json.loads(made(file)))
        typer.echo(f"Back to what is committed: {BACK}")
    if not same:
        raise typer.Exit(1)


def _run_pipeline() -> None:
    """Run all stages again. What DVC says goes to standard error, like progress. Raises InputError where one fails."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", "repro", "--force"]
    if subprocess.run(command, stdout=sys.stderr, env={**os.environ, "PATH": programs}, check=False).returncode:
        raise InputError("the pipeline can't be run again: dvc repro --force fails, and says why above")


def _verify_outputs() -> None:
    """Compare dvc.lock with the one committed."""
    from imgpipe.commands.causes import causes, outputs

    before, after = stages(committed(LOCK)), stages(made(LOCK))
    was, now = outputs(before), outputs(after)
    moved = [path for path in {**was, **now} if was.get(path) != now.get(path)]
    if not moved:
        typer.echo(f"identical: all {len(now)} outputs are those committed")
        return
    typer.echo(printable("not identical: " + ", ".join(moved)))
    for kind, whats in causes(before, after).items():
        typer.echo(printable(f"why: {kind}: {', '.join(whats)}"))
    for file in METRICS.values():
        typer.echo(f"{file}:")
        _say_how_far(json.loads(committed(file)), json.loads(made(file)))
    typer.echo(f"Back to what is committed: {BACK}")
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
        typer.echo(printable(line))
