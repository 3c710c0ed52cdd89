"""``imgpipe compare``: is a revision better than another?"""

from typing import Annotated

import typer

from imgpipe.commands.revisions import WORKSPACE
from imgpipe.common.errors import InputError

FAILED = 3
"""Exit status where B is worse: 1 is an error, 2 wrong usage."""


def compare(
    a: Annotated[str, typer.Argument(help="Commit, branch, tag or experiment; or workspace, the files as they lie.")],
    b: Annotated[str, typer.Argument(help="The same: what is to be better or not than A.")] = WORKSPACE,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="As Markdown.")] = False,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help=f"Exit status {FAILED} if B is worse; 1 is an error.")
    ] = False,
) -> None:
    """Is B better than A, worse, or not distinguishable? By their predictions for the same test images."""
    if as_json and as_markdown:
        raise InputError("--json and --md are two forms of the same: give one of them")

    # numpy, which these import, takes longer than all else that starts
    from imgpipe.commands.comparison import WORSE
    from imgpipe.commands.comparison_report import report_on, to_json, to_markdown, to_text

    report = report_on(a, b)
    typer.echo(to_json(report) if as_json else to_markdown(report) if as_markdown else to_text(report))
    if fail_if_worse and report.comparison.verdict == WORSE:
        raise typer.Exit(FAILED)
