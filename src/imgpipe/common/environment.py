"""Tell a Python without the packages from one with them. Only what comes with Python is imported here."""

import sys
from importlib.util import find_spec

LACKING = (
    f"error: {sys.executable} lacks the packages that imgpipe needs; run make setup, which installs them into .venv, "
    "and then: source .venv/bin/activate"
)
"""What to say where ``is_there`` is false."""


def is_there() -> bool:
    """Return whether the packages are installed, as far as those tell that commands and stages import first."""
    return all(find_spec(name) for name in ("typer", "hydra_zen"))
