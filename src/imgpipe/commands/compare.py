"""``imgpipe compare``: is a recipe better than another, by several runs of both; or a model, by one of each?"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.commands.comparing.revisions import WORKSPACE
from imgpipe.commands.writing import place_of, writing
from imgpipe.common.errors import InputError

FAILED = 3
"""Exit status where a candidate is worse: 1 is an error, 2 wrong usage."""


class Metric(StrEnum):
    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    LOSS = "loss"


def compare(
    base: Annotated[
        str,
        typer.Argument(
            help="Runs of one recipe: experiments, commits, branches or tags, with commas between them, or a pattern "
            "such as 'base-*'; or workspace, the files as they lie."
        ),
    ],
    candidates: Annotated[
        list[str] | None, typer.Argument(help="The same, of what is to be better or not.", show_default=WORKSPACE)
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Judge by the test split, not by val: only after all choices are made.")
    ] = False,
    metric: Annotated[Metric, typer.Option(help="What is compared.")] = Metric.ACCURACY,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Equivalent: the difference is shown to be less than this, in the metric's units.", show_default="none"
        ),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="A .png or .svg file for the figure.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="As Markdown.")] = False,
    fail_if_worse: Annotated[
        bool,
        typer.Option(
            "--fail-if-worse",
            help=f"Exit status {FAILED} if a candidate is worse, 0 if that is not known; 1 is an error.",
        ),
    ] = False,
) -> None:
    """Is it better, worse, equivalent, or not yet known? By what was predicted for the same images.

    Several runs a side judge recipes, over training seeds and images; a single run a side judges these two models only.
    """
    if as_json and as_markdown:
        raise InputError("--json and --md are two forms of the same: give one of them")
    figure = _checked(margin, figure)

    # numpy, which these import, takes longer than all else that starts
    from imgpipe.commands.comparing.judging import judge
    from imgpipe.commands.comparing.looks import looks_at
    from imgpipe.commands.comparing.paired import WORSE
    from imgpipe.commands.comparing.runs import read_sets
    from imgpipe.commands.comparing.text import to_json, to_markdown, to_text

    split = "test" if test else "val"
    judgement = judge(read_sets([base, *(candidates or [WORKSPACE])], split), split=split, metric=metric, margin=margin)
    looks = looks_at({on.reference.content for on in judgement.tested}) if test else None
    write = to_json if as_json else to_markdown if as_markdown else to_text
    typer.echo(write(judgement, looks))
    if figure:
        from imgpipe.commands.comparing.forest import draw_forest  # matplotlib takes half a second more

        with writing(figure):
            draw_forest(figure, judgement)
    if fail_if_worse and any(one.verdict.verdict == WORSE for one in judgement.candidates):
        raise typer.Exit(FAILED)


def _checked(margin: float | None, figure: Path | None) -> Path | None:
    """Return where the figure goes. Raises InputError where it can't, and for a margin that is none."""
    if margin is not None and not 0 < margin < float("inf"):
        raise InputError(f"--margin is {margin}; it must be above 0, such as 0.01")
    place = figure and place_of(figure)
    if place and place.suffix not in (".png", ".svg"):
        raise InputError(f"--figure is '{place}'; its name must end in .png or .svg")
    return place
