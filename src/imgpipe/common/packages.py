"""packages.yaml: the versions of the packages that show in the bits of results, and whether they are installed.

A version counts without what stands behind its "+": PyTorch's builds for the CPU are 2.15.0+cpu.
"""

from importlib import metadata
from pathlib import Path

from imgpipe.common import params
from imgpipe.common.errors import InputError

PACKAGES = Path("packages.yaml")


def read() -> dict[str, str]:
    """Return the version of each package in the file. Raises InputError where it can't be read."""
    versions = params.load(PACKAGES)
    for name, version in versions.items():
        if not isinstance(version, str):
            raise InputError(f"{PACKAGES}: {name} is {version}, which YAML takes for no text; write it in quotes")
    return versions


def check_installed() -> None:
    """Raise InputError where the installed version of a package is another than the file says."""
    if others := others_installed():
        raise InputError(
            f"{', '.join(others)} is installed, but results depend on the versions in {PACKAGES}; make setup installs "
            f"those, or write the installed one into {PACKAGES}: what depends on it runs again"
        )


def others_installed() -> list[str]:
    """Return the packages, each with both versions, that are installed in another version than the file says.

    One that is not installed passes: it is an extra that nothing uses here, or else who needs it says so.
    """
    others = []
    for name, version in read().items():
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
        if installed != version:
            others.append(f"{name} {installed} (not {version})")
    return others


def of_stage(described: params.Section) -> list[str]:
    """Return the names of the packages that a stage of dvc.yaml has among its parameters."""
    listed = (entry[str(PACKAGES)] for entry in described["params"] if isinstance(entry, dict))
    return [name for names in listed for name in names]


def sections_of_stage(described: params.Section) -> list[str]:
    """Return the names of the sections of params.yaml that a stage of dvc.yaml has among its parameters."""
    return [entry for entry in described["params"] if isinstance(entry, str)]
