"""Compare the test outcomes of two revisions, and write what there is to say as text, Markdown or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from imgpipe.commands.comparison import NOT_DISTINGUISHABLE, Comparison, Predictions
from imgpipe.commands.comparison import compare as compare_predictions
from imgpipe.commands.outcomes import FILES, places_in, read_outcome
from imgpipe.commands.revisions import Revision, files_at

LISTED = 10
"""Images that changed sides, of each direction, shown to people."""


@dataclass(frozen=True)
class Changed:
    """A test image that one of the two got right."""

    file: str
    """As A calls it."""

    actual: str
    """The name of its true class."""

    a: str
    """The class that A predicted."""

    b: str
    """The class that B predicted."""


@dataclass(frozen=True)
class ComparisonReport:
    """What there is to say about two revisions."""

    a: Revision
    b: Revision

    images: int
    """How many there are in the test split."""

    classes: int
    """How many there are."""

    comparison: Comparison
    changed: list[Changed]

    @property
    def sentence(self) -> str:
        """The verdict, in a sentence."""
        than = "from" if self.comparison.verdict == NOT_DISTINGUISHABLE else "than"
        return f"{self.b.name} is {self.comparison.verdict} {than} {self.a.name}"


def report_on(a: str, b: str) -> ComparisonReport:
    """Compare two revisions, given by their names.

    Raises InputError where one is not there or lacks a file, or where their tests can't be compared.
    """
    with files_at(a, FILES) as revision_a, files_at(b, FILES) as revision_b:
        outcome_a, outcome_b = (read_outcome(revision.name, revision.folder) for revision in (revision_a, revision_b))
    places = places_in(outcome_b, outcome_a)
    numbers = {name: number for number, name in enumerate(outcome_a.classes)}
    actual, predicted_a, predicted_b = (
        np.array([numbers[name] for name in names])
        for names in (outcome_a.actual, outcome_a.predicted, outcome_b.predicted)
    )
    predicted_b = predicted_b[places]
    return ComparisonReport(
        a=revision_a,
        b=revision_b,
        images=len(actual),
        classes=len(outcome_a.classes),
        comparison=compare_predictions(
            actual, Predictions(predicted_a, outcome_a.losses), Predictions(predicted_b, outcome_b.losses[places])
        ),
        changed=[
            Changed(outcome_a.files[i], outcome_a.actual[i], outcome_a.predicted[i], outcome_b.predicted[places[i]])
            for i in np.flatnonzero((predicted_a == actual) != (predicted_b == actual)).tolist()
        ],
    )


def to_json(report: ComparisonReport) -> str:
    """Return everything as JSON: numbers unrounded, and all images that changed sides."""
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


def to_text(report: ComparisonReport) -> str:
    """Return what a person reads on a terminal."""
    blocks = [_aligned(_metrics(report)), _summary(report)]
    blocks += [f"{title}\n{_aligned(rows)}" for title, rows in _changed(report)]
    return "\n\n".join([*blocks, report.sentence])


def to_markdown(report: ComparisonReport) -> str:
    """Return what a person reads in a comment on a pull request, as Markdown."""
    blocks = [f"**{_escaped(report.sentence)}**", _table(_metrics(report)), _escaped(_summary(report))]
    blocks += [f"{_escaped(title)}\n\n{_table(rows)}" for title, rows in _changed(report)]
    return "\n\n".join(blocks)


def _metrics(report: ComparisonReport) -> list[list[str]]:
    """Return the table of the metrics, by rows."""
    header = ["", report.a.name, report.b.name, "difference", "95 % interval"]
    return [
        header,
        *(
            [name, f"{m.a:.4f}", f"{m.b:.4f}", f"{m.difference:+.4f}", f"{m.low:+.4f} to {m.high:+.4f}"]
            for name, m in report.comparison.metrics.items()
        ),
    ]


def _summary(report: ComparisonReport) -> str:
    """Return two sentences about how many predictions changed."""
    a, b, found, n = report.a.name, report.b.name, report.comparison, report.images
    return (
        f"Of {n} test images {found.only_b_right} are right in {b} only and {found.only_a_right} in {a} only "
        f"(McNemar's exact test: p = {found.p_value:.2g}).\n"
        f"The predictions differ on {found.predictions_differ} ({found.predictions_differ / n:.1%})."
    )


def _changed(report: ComparisonReport) -> list[tuple[str, list[list[str]]]]:
    """Return the images that only A, and those that only B got right, as a title and a table, where there are any."""
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
    """Set columns two spaces apart, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)] for row in rows)
    return "\n".join("  ".join([row[0].ljust(widths[0]), *cells]) for row, cells in zip(rows, lines, strict=True))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    header, *body = ("| " + " | ".join(map(_escaped, row)) + " |" for row in rows)
    return "\n".join([header, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def _escaped(text: str) -> str:
    """Return the text in such a way that Markdown shows it as it is."""
    return "".join(f"\\{c}" if c in "\\`*_|<>[]" else c for c in text)
