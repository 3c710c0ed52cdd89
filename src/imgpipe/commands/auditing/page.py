"""Write an audit as one HTML file that needs no other, no script and no network. Its layout is in audit.html.jinja."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from imgpipe.commands.auditing.report import Audit, about_images, about_labels, about_slices
from imgpipe.commands.auditing.thumbnails import thumbnails
from imgpipe.plot.galleries import LOSSLESS, data_uri

MOST_IMAGES = 150
"""Images on the page: with thumbnails of 128 pixels it stays below 5 MB whatever is on them."""
MOST_PAIRS = 20
"""Pairs of classes on the page."""
MOST_SLICES = 100
"""Slices on the page."""


def to_page(audit: Audit, root: Path) -> tuple[str, int]:
    """Return the page, and how many of its images have no thumbnail since the workspace does not have them.

    Names of classes and files are text in it, whatever they hold.

    root: the project's folder, in which the images are.
    """
    shown = [doubt for doubt in audit.doubts if doubt.counted][:MOST_IMAGES]
    hashes = [audit.predicted.images[i].pixels for i in audit.labels.worst_first[: len(shown)].tolist()]
    found = thumbnails(root, frozenset(hashes))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("audit.html.jinja").render(
        images=about_images(audit),
        labels=about_labels(audit),
        about_slices=about_slices(audit),
        counted=audit.counted,
        gallery=[(doubt, found.get(pixels)) for doubt, pixels in zip(shown, hashes, strict=True)],
        pairs=audit.pairs[:MOST_PAIRS],
        more_pairs=len(audit.pairs[MOST_PAIRS:]),
        slices=audit.slices.slices[:MOST_SLICES],
        more_slices=len(audit.slices.slices[MOST_SLICES:]),
        data_uri=data_uri,
        lossless=LOSSLESS,
        percent=_percent,
    )
    return page, sum(pixels not in found for pixels in hashes)


def _percent(share: float) -> str:
    """Return a probability in whole percent, of which none is certain.

    >>> _percent(0.999), _percent(0.5), _percent(0.001)
    ('>99%', '50%', '<1%')
    """
    return ">99%" if share >= 0.995 else "<1%" if share < 0.005 else f"{share:.0%}"
