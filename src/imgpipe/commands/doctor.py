from pathlib import Path

import typer

from imgpipe.commands.diagnosis import examine


def doctor() -> None:
    """Say how the machine is, and what to do where it is wrong.

    The exit status is then 1. To be run in the project's top folder.
    """
    wrong = 0
    for finding in examine(Path.cwd()):
        state, after = ("ok", "") if finding.remedy is None else ("WRONG", f"; {finding.remedy}")
        typer.echo(f"{state:5}  {finding.subject:11}  {finding.text}{after}")
        wrong += finding.remedy is not None
    if wrong:
        raise typer.Exit(1)
