"""Make text of others, such as names of files and classes or what a server says, safe for where it is shown.

HTML needs nothing of this: its templates escape. Nor does JSON. CSV stays exact, since programs read it back; a
spreadsheet takes cells that begin with = + - or @ for formulas.
"""

import re
import unicodedata

SPECIAL = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {character: f"&#{ord(character)};" for character in "\\`*[]|~$@"}
"""What means something in Markdown, as entities, which are plain text to every reader of it."""


def printable(text: str) -> str:
    """Return the text on one line, and without what would command a terminal.

    >>> printable("a\\nb é")
    'a\\\\nb é'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_xml(text: str) -> str:
    """Return the text without what is not allowed in XML, and so in an SVG figure.

    >>> in_xml("a\\x1b\\ufffe é")
    'a\\\\x1b\\\\ufffe é'
    """
    return re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda found: printable(found[0]), text)


def in_markdown(text: str) -> str:
    """Return the text as one line of Markdown that shows it as it is.

    >>> in_markdown("a|b\\n*c*")
    'a&#124;b &#42;c&#42;'
    >>> in_markdown("train.batch_size, __init__")
    'train.batch_size, &#95;&#95;init&#95;&#95;'
    """
    line = " ".join(text.split())
    shown = "".join(SPECIAL.get(letter, letter) for letter in line if unicodedata.category(letter) != "Cc")
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", shown)  # within a word it means nothing
