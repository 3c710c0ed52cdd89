"""Write an audit as text for a terminal."""

from collections.abc import Sequence

from rich.cells import cell_len

from imgpipe.commands.auditing.report import Audit, about_images, about_labels, about_slices
from imgpipe.commands.auditing.slices import Slice
from imgpipe.common.safe_text import printable

LISTED = 10
"""Rows of each table."""


def to_text(audit: Audit) -> str:
    """Return what a person reads on a terminal: sentences, and the first rows of each table."""
    frequent = [[p.label, p.suggested, f"{p.counted:,}", f"{p.estimate:,.0f}"] for p in audit.pairs]
    worst = [
        [d.source, d.label, d.suggested, f"{d.p_label:.3f}", f"{d.p_suggested:.3f}"] for d in audit.doubts if d.counted
    ]
    slices = [_slice_row(one) for one in audit.slices.slices]
    blocks = [
        "\n".join(about_images(audit)),
        about_labels(audit),
        _titled("Most frequent", ["labelled", "looks like", "images", "estimate"], frequent),
        _titled("Worst labels", ["source", "labelled", "looks like", "p label", "p looks like"], worst),
        about_slices(audit),
        _titled("Worst slices", ["by", "value", "images", "accuracy", "95 % interval", "others", "p"], slices),
    ]
    return "\n\n".join(filter(None, blocks))


def _slice_row(one: Slice) -> list[str]:
    interval = f"{one.low:.4f} to {one.high:.4f}"
    numbers = [f"{one.images:,}", f"{one.accuracy:.4f}", interval, f"{one.others:.4f}", f"{one.p_adjusted:.2g}"]
    return [one.by, one.value or "(empty)", *numbers]


def _titled(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a title and the first rows in aligned columns of these names; nothing where there are no rows."""
    if not rows:
        return ""
    shown = [[printable(cell) for cell in row] for row in (names, *rows[:LISTED])]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    padded = ([cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)] for row in shown)
    more = f", {LISTED} of {len(rows):,}" if len(rows) > LISTED else ""
    return "\n".join([f"{title}{more}:", *("  ".join(row).rstrip() for row in padded)])
