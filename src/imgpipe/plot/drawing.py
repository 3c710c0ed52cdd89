"""Draw all figures in one style and colours, with names that fit, and save them so that equal ones are equal bytes.

Colours are Okabe and Ito's (Color Universal Design, 2008), which the colour-blind can tell apart; what is told by
colour is also told by a dash, a marker or a word.
"""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from imgpipe.common.files import replacing
from imgpipe.common.progress import counting
from imgpipe.common.safe_text import in_xml

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
INK, QUIET, FAINT, LINE, ACCENT, PAPER = "#1b1b1a", "#5f5d58", "#bab7b0", "#e2e0da", "#b23c0a", "#ffffff"
"""Of curves, by what they are for: what is read first, what beside it, what is only there, a grid, and what to see."""
ON_A_PAGE = {
    colour: f"var(--{name})"
    for name, colour in {
        "ink": INK,
        "quiet": QUIET,
        "faint": FAINT,
        "line": LINE,
        "accent": ACCENT,
        "paper": PAPER,
    }.items()
}
"""The variable of the report's style that stands for a colour, and is another in a dark scheme."""
WIDTH = 4.2  # inches: half a column of the report, and a phone's width without the text growing too small
LEFT_TO_RIGHT = "\u200e"  # an invisible mark
FONT = "DejaVu Sans"  # comes with matplotlib


@contextmanager
def house_style() -> Iterator[None]:
    """Make the context to draw and save figures in: matplotlib's defaults, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # see foreign_letters()
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "text.parse_math": False,  # a class may be called $x$
                "font.family": FONT,
                "font.size": 9,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.edgecolor": QUIET,
                "axes.labelcolor": QUIET,
                "xtick.color": QUIET,
                "ytick.color": QUIET,
                "text.color": INK,
                "grid.color": LINE,
                "lines.linewidth": 1.6,
                "legend.frameon": False,
            }
        )
        yield


def short(name: str, length: int) -> str:
    """Return the name on one line and fit for a figure, its middle left out where it is longer than so many characters.

    >>> short("a_class_of_very_long_name", 12)
    'a_clas…_name'
    """
    name = in_xml(" ".join(name.split()))
    if len(name) > length:
        end = (length - 1) // 2
        name = f"{name[: length - 1 - end]}…{name[-end:]}"
    return name


def in_line(name: str, length: int) -> str:
    """Return the short name for a line of other text, which a name written from right to left would turn round."""
    return f"{LEFT_TO_RIGHT}{short(name, length)}{LEFT_TO_RIGHT}"


def legend_above(figure: Figure, columns: int) -> None:
    """Add one legend for all axes of the figure, above them, where it can hide nothing."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(str(label), handle)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)


def save_all(figures: Mapping[str, Figure], folder: Path, *, ending: str, dpi: int) -> None:
    """Save the figures under their names in the folder, with a progress bar.

    Warns of letters that a PNG does not show.
    """
    foreign = set[str]()
    for name, figure in counting("drawing", figures.items(), len(figures)):
        save(figure, folder / f"{name}.{ending}", dpi=dpi)
        foreign.update(foreign_letters(figure))
    if foreign and ending == "png":
        logging.warning("png figures have boxes for letters like %s; plot.format svg shows them", min(foreign))


def save(figure: Figure, path: Path, *, dpi: int) -> None:
    """Save the figure in the format of the path's ending. Equal figures give equal bytes: no dates, no random ids.

    Letters are drawn, so that a figure looks the same everywhere. matplotlib's own font lacks some scripts (Chinese,
    Thai, ...): an SVG figure with such names holds text instead, for the fonts of whoever looks at it.
    """
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with replacing(path) as draft, matplotlib.rc_context():
        matplotlib.rcParams.update(
            {"svg.hashsalt": path.stem, "svg.fonttype": "none" if foreign_letters(figure) else "path"}
        )
        figure.savefig(draft, format=path.suffix[1:], dpi=dpi, metadata=metadata)


def for_a_page(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element of an HTML page: its texts are text, its colours the page's variables.

    name: of the figure, which no other of the page has.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    _, start, element = file.getvalue().partition("<svg")
    return re.sub(r"<[^<>]+>", _tag_for_a_page, start + element)


def _tag_for_a_page(tag: re.Match[str]) -> str:
    """Return a tag of matplotlib's SVG without the names of its parts, which every figure has, and with variables."""
    text = re.sub(r' id="[a-z]+[\w.]*_\d+"', "", tag[0])
    return re.sub(r"#[0-9a-f]{6}", lambda colour: ON_A_PAGE.get(colour[0], colour[0]), text)


def foreign_letters(figure: Figure) -> list[str]:
    """Return the letters of the figure's texts that matplotlib's own font lacks, sorted; a PNG has boxes for them."""
    font = font_manager.get_font(font_manager.findfont(FONT))
    letters = {letter for text in figure.findobj(Text) if isinstance(text, Text) for letter in text.get_text()}
    return sorted(letter for letter in letters if not letter.isspace() and not font.get_char_index(ord(letter)))
