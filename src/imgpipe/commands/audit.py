"""``imgpipe audit``: which labels are probably wrong, and on which images is the model worse?"""

from pathlib import Path
from typing import Annotated

import typer

from imgpipe.commands.comparing.revisions import WORKSPACE, files_at, matching
from imgpipe.commands.writing import place_of, writing


def audit(
    runs: Annotated[
        str,
        typer.Argument(
            help="Runs whose tests are all images once, such as 'folds-*'; or one: its val and test images."
        ),
    ] = WORKSPACE,
    output: Annotated[Path, typer.Option(help="The folder for the tables and the page.")] = Path("audit"),
) -> None:
    """List labels that are probably wrong, and the accuracy on slices of the images.

    Each image is judged by a model that was not trained on it. docs/audit.md says how to get such models for all.
    """
    place = place_of(output / "audit.html")
    # slow to import: see __main__.py
    from imgpipe.commands.auditing.page import to_page
    from imgpipe.commands.auditing.report import audit_of, write_tables
    from imgpipe.commands.auditing.text import to_text
    from imgpipe.common.files import write_text

    found = audit_of(matching(runs))
    with files_at(WORKSPACE, []) as here:
        page, missing = to_page(found, here.folder)
    with writing(output):
        write_tables(output, found)
        write_text(place, page)
    typer.echo(to_text(found))
    if missing:
        typer.echo(
            f"\nImages that the page lacks, since data/prepared of the workspace does not have them: {missing:,}."
        )
    typer.echo(f"\n{output}: audit.html, labels.csv, slices.csv")
