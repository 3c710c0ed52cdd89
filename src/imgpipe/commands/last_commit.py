"""Results of the pipeline as they lie in this folder, and as Git's last commit has them."""

import subprocess
from pathlib import Path
from typing import Any

from imgpipe.common.errors import InputError

LOCK = "dvc.lock"
METRICS = {"val": "metrics/val/metrics.json", "test": "metrics/test/metrics.json"}
THERE = "run this in the project's top folder"


def committed(file: str) -> str:
    """Return the text of a file of this folder as it is in Git's last commit. Raises InputError where it is not."""
    command = ["git", "show", f"HEAD:./{file}"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # there is no such program, or it has no such file
        raise InputError(f"Git has no {file} in its last commit here; {THERE}, with the results committed") from None


def made(file: str) -> str:
    """Return the text of a file of this folder as it is. Raises InputError where it is not."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {file} in {Path.cwd()}; {THERE}, after dvc repro") from None


def stages(lock: str) -> dict[str, Any]:
    """Return what the text of a dvc.lock says of each stage. Raises InputError where it is none."""
    from imgpipe.common.params import parsed  # slow to import

    try:
        found = parsed(lock.encode(), LOCK).get("stages")
    except InputError as error:
        raise InputError(f"{error}; where a merge left both sides in it, keep one and run dvc repro") from None
    if not isinstance(found, dict):
        raise InputError(f"{LOCK} has no stages; run dvc repro")
    return found
