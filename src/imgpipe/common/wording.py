"""Put numbers into sentences."""


def counted(count: int, what: str) -> str:
    """Return a number with the noun that it counts, such as "1 class" and "2,000 classes"."""
    return f"{count:,} {what}{'' if count == 1 else 'es' if what.endswith('s') else 's'}"


def have(count: int) -> str:
    """Return the verb that goes with so many."""
    return "has" if count == 1 else "have"


def are(count: int) -> str:
    """Return the verb that goes with so many."""
    return "is" if count == 1 else "are"
