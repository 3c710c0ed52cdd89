"""Make text of others, such as names of files and classes or what a server says, safe for where it is shown.

HTML needs nothing of this: its templates escape.
"""


def printable(text: str) -> str:
    """Return the text on one line, and without what would command a terminal or is not allowed in XML.

    >>> printable("a\\nb é")
    'a\\\\nb é'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
