"""Read requirements.lock; as a program, the end of ``make lock``: write its versions into packages.yaml."""

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imgpipe.commands.params_file import with_values
from imgpipe.common import packages
from imgpipe.common.errors import InputError, exit_on_input_error
from imgpipe.common.files import write_text

LOCK = Path("requirements.lock")


def read_lock(path: Path) -> dict[str, str]:
    """Return the locked versions by name, of those packages that are for this platform."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pinned = (Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in " #")
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in pinned
        if one.marker is None or one.marker.evaluate()
    }


def write_packages() -> None:
    """Bring packages.yaml to the locked versions. Raises InputError where one of its packages is not locked."""
    locked, names = read_lock(LOCK), packages.read()
    if missing := [name for name in names if name not in locked]:
        raise InputError(f"{packages.PACKAGES} names {', '.join(missing)}, which {LOCK} has not; take it out there")
    text = packages.PACKAGES.read_text(encoding="utf-8")
    write_text(packages.PACKAGES, with_values(text, {name: locked[name] for name in names}, {}))


if __name__ == "__main__":
    with exit_on_input_error():
        write_packages()
