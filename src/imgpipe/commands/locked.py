"""The installed packages against those that are locked."""

import tomllib
from collections import defaultdict
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from imgpipe.commands.findings import Finding

SETUP = "make setup installs what is locked"


def packages(folder: Path) -> Finding:
    """Whether what the project's ``pyproject.toml`` needs is installed as its ``requirements.lock`` has it."""
    for name in ("pyproject.toml", "requirements.lock"):
        if not (folder / name).is_file():
            return Finding("packages", f"there is no {name} in {folder}", "run this in the project's top folder")
    try:
        locked = read_lock(folder / "requirements.lock")
        names = sorted(needed(folder / "pyproject.toml"))
    except ValueError as error:
        reason = " ".join(str(error).split())
        return Finding(
            "packages", f"pyproject.toml or requirements.lock can't be read: {reason}", "mend it, or git checkout it"
        )
    installed = {name: _installed(name) for name in names}
    missing = [f"{name} is missing ({locked.get(name, 'any')})" for name, version in installed.items() if not version]
    differing = [
        f"{name} is {version} ({locked[name]})"
        for name, version in installed.items()
        if version and name in locked and Version(version).public != locked[name]
    ]
    unlocked = [f"{name} is not locked" for name, version in installed.items() if version and name not in locked]
    problems = [*missing, *differing, *unlocked]
    if not problems:
        return Finding("packages", f"{len(installed)} installed as requirements.lock has them")
    remedy = SETUP if missing or differing else "make lock writes requirements.lock anew"
    return Finding("packages", f"other than in requirements.lock: {', '.join(problems)}", remedy)


def read_lock(path: Path) -> dict[str, str]:
    """Versions by name, of those packages that are for this platform."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pinned = (Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in " #")
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in pinned
        if one.marker is None or one.marker.evaluate()
    }


def needed(pyproject: Path) -> set[str]:
    """Names of what the project and its developers ask for, and of what the installed ones of these ask for, and so on.

    The other extras are at the user's choice, and not in the lock.

    PyTorch's builds for the CPU do without the CUDA packages that the lock also has.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    developers = project.get("optional-dependencies", {}).get("dev", [])
    waiting = [Requirement(text) for text in [*project["dependencies"], *developers]]
    seen: defaultdict[str, set[str]] = defaultdict(set)
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        new = {"", *asked.extras} - seen[name]
        seen[name] |= new
        requirements = [Requirement(text) for text in _requires(name)]
        waiting += [one for one in requirements if any(_applies(one, extra) for extra in new)]
    return set(seen)


def _applies(requirement: Requirement, extra: str) -> bool:
    """Whether a package asked for with this extra asks for the requirement; ``""``: without any."""
    if requirement.marker is None:
        return extra == ""
    return requirement.marker.evaluate({"extra": extra})


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
