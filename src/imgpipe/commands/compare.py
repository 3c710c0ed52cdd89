import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.commands.revisions import WORKSPACE, Revision, files_at
from imgpipe.common.errors import InputError

if TYPE_CHECKING:
    from imgpipe.commands.comparison import Comparison

FAILED = 3
"""Exit status where B is worse: 1 is an error, 2 wrong usage."""

LISTED = 10
"""Images that changed sides, of each direction, shown to people."""


@dataclass(frozen=True)
class Changed:
    """A test image that one of the two got right: its file (as A calls it), its class, and what each answered."""

    file: str
    actual: str
    a: str
    b: str


@dataclass(frozen=True)
class Report:
    """What there is to say about two revisions."""

    a: Revision
    b: Revision
    images: int
    classes: int
    comparison: "Comparison"
    changed: list[Changed]

    @property
    def sentence(self) -> str:
        than = "from" if self.comparison.verdict.startswith("not") else "than"
        return f"{self.b.name} is {self.comparison.verdict} {than} {self.a.name}"


def compare(
    a: Annotated[str, typer.Argument(help="Commit, branch, tag or experiment; or workspace, the files as they lie.")],
    b: Annotated[str, typer.Argument(help="The same: what is to be better or not than A.")] = WORKSPACE,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="As Markdown.")] = False,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help=f"Exit status {FAILED} if B is worse; 1 is an error.")
    ] = False,
) -> None:
    """Is B better than A, worse, or not distinguishable? By their answers to the same test images."""
    if as_json and as_markdown:
        raise InputError("--json and --md are two forms of the same: give one of them")
    report = report_on(a, b)
    typer.echo(to_json(report) if as_json else to_markdown(report) if as_markdown else to_text(report))
    if fail_if_worse and report.comparison.verdict == "worse":
        raise typer.Exit(FAILED)


def report_on(a: str, b: str) -> Report:
    """The comparison of two revisions by their names."""
    import numpy as np

    from imgpipe.commands.comparison import Answers
    from imgpipe.commands.comparison import compare as compare_answers
    from imgpipe.commands.revisions import FILES, places_in, read_test

    with files_at(a, FILES) as revision_a, files_at(b, FILES) as revision_b:
        test_a, test_b = (read_test(revision.name, revision.folder) for revision in (revision_a, revision_b))
    places = places_in(test_b, test_a)
    numbers = {name: number for number, name in enumerate(test_a.classes)}
    actual, said_a, said_b = (
        np.array([numbers[name] for name in names]) for names in (test_a.actual, test_a.predicted, test_b.predicted)
    )
    said_b = said_b[places]
    return Report(
        a=revision_a,
        b=revision_b,
        images=len(actual),
        classes=len(test_a.classes),
        comparison=compare_answers(actual, Answers(said_a, test_a.losses), Answers(said_b, test_b.losses[places])),
        changed=[
            Changed(test_a.files[i], test_a.actual[i], test_a.predicted[i], test_b.predicted[places[i]])
            for i in np.flatnonzero((said_a == actual) != (said_b == actual)).tolist()
        ],
    )


def to_json(report: Report) -> str:
    """Everything: numbers unrounded, and all images that changed sides."""
    return json.dumps(
        {
            "a": {"name": report.a.name, "commit": report.a.commit},
            "b": {"name": report.b.name, "commit": report.b.commit},
            "images": report.images,
            "classes": report.classes,
            **asdict(report.comparison),
            "predictions_differ_share": report.comparison.predictions_differ / report.images,
            "changed": [asdict(image) for image in report.changed],
        },
        indent=2,
        ensure_ascii=False,
    )


def to_text(report: Report) -> str:
    """For the terminal."""
    blocks = [_aligned(_metrics(report)), _summary(report)]
    blocks += [f"{title}\n{_aligned(rows)}" for title, rows in _changed(report)]
    return "\n\n".join([*blocks, report.sentence])


def to_markdown(report: Report) -> str:
    """For a comment on a pull request."""
    blocks = [f"**{_escaped(report.sentence)}**", _table(_metrics(report)), _escaped(_summary(report))]
    blocks += [f"{_escaped(title)}\n\n{_table(rows)}" for title, rows in _changed(report)]
    return "\n\n".join(blocks)


def _metrics(report: Report) -> list[list[str]]:
    header = ["", report.a.name, report.b.name, "difference", "95 % interval"]
    return [
        header,
        *(
            [name, f"{m.a:.4f}", f"{m.b:.4f}", f"{m.difference:+.4f}", f"{m.low:+.4f} to {m.high:+.4f}"]
            for name, m in report.comparison.metrics.items()
        ),
    ]


def _summary(report: Report) -> str:
    a, b, found, n = report.a.name, report.b.name, report.comparison, report.images
    return (
        f"Of {n} test images {found.only_b_right} are right in {b} only and {found.only_a_right} in {a} only "
        f"(McNemar's exact test: p = {found.p_value:.2g}).\n"
        f"The predictions differ on {found.predictions_differ} ({found.predictions_differ / n:.1%})."
    )


def _changed(report: Report) -> list[tuple[str, list[list[str]]]]:
    """The images that only A, and those that only B got right: a title and a table, where there are any."""
    only_a = [image for image in report.changed if image.a == image.actual]
    only_b = [image for image in report.changed if image.b == image.actual]
    tables = []
    for name, images in ((report.a.name, only_a), (report.b.name, only_b)):
        title = f"Right in {name} only"
        if len(images) > LISTED:
            title += f", {LISTED} of {len(images)} (--json has all)"
        rows = [["file", "actual", report.a.name, report.b.name]]
        rows += [[image.file, image.actual, image.a, image.b] for image in images[:LISTED]]
        if images:
            tables.append((f"{title}:", rows))
    return tables


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)] for row in rows)
    return "\n".join("  ".join([row[0].ljust(widths[0]), *cells]) for row, cells in zip(rows, lines, strict=True))


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = ("| " + " | ".join(map(_escaped, row)) + " |" for row in rows)
    return "\n".join([header, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def _escaped(text: str) -> str:
    """The text as Markdown shows it unchanged."""
    return "".join(f"\\{c}" if c in "\\`*_|<>[]" else c for c in text)
