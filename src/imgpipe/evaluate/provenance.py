"""What a model was made from, to stand in its file.

It is read from what dvc.yaml lists for the evaluate stage, which depends on the code, the parameters and the packages
of all stages up to it: so the record, and with it the model's bytes, is a function of what DVC watches. The commit is
not in it, since a commit can only be made after the file that it records.
"""

import json
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from imgpipe.common import packages, params
from imgpipe.common.errors import InputError, without_secrets
from imgpipe.common.files import sha256_of

PROVENANCE = "provenance"
"""The key in the head of a model file."""
SOURCE = Path("data/source.json")
"""Name and SHA-256 of the archive, of the download stage."""
CODE = ("src/", "stages/")
ENDINGS = (".py", ".jinja")
"""Of what counts as code in a folder: .dvcignore says the same."""


def provenance(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the model of this project's folder is made from, and how it did.

    ``sources``: SHA-256 of the archive by its name. ``code``: SHA-256 of each file by its path. ``parameters``: the
    sections of params.yaml, addresses without what may be a password. ``packages``: versions by name. ``metrics``.

    metrics: by split.
    """
    source = json.loads(SOURCE.read_text(encoding="utf-8"))
    return {"sources": {source["file"]: source["sha256"]}, **settings(), "metrics": metrics}


def settings() -> dict[str, Any]:
    """Return what the model is made from beside its images: ``code``, ``parameters`` and ``packages``."""
    described = params.load(Path("dvc.yaml"))["stages"]["evaluate"]
    sections, versions = params.load(params.PARAMS), packages.read()
    return {
        "code": {path.as_posix(): sha256_of(path) for path in _code(described["deps"])},
        "parameters": canonical(_picked(sections, packages.sections_of_stage(described), params.PARAMS)),
        "packages": _picked(versions, packages.of_stage(described), packages.PACKAGES),
    }


def _picked(values: dict[str, Any], names: list[str], file: Path) -> dict[str, Any]:
    """Return the values of these names. Raises InputError where the file lacks one."""
    if missing := [name for name in names if name not in values]:
        raise InputError(f"{file}: {missing[0]} is missing, which dvc.yaml has evaluate depend on; git diff {file}")
    return {name: values[name] for name in names}


def _code(listed: list[str]) -> list[Path]:
    """Return the files of code among a stage's dependencies, those of a folder one by one, sorted."""
    places = [Path(path) for path in listed if path.startswith(CODE)]
    files = (file for place in places for file in (place.rglob("*") if place.is_dir() else [place]))
    return sorted({file for file in files if file.suffix in ENDINGS and file.is_file()})


def canonical(value: Any) -> Any:
    """Return a value as JSON has it, the same for values that DVC takes for equal: 1 and 1.0, and keys in any order.

    >>> canonical({"lr": 1.0, "class_names": {0: "cat"}, "url": "https://me:secret@example.org/a.zip"})
    {'class_names': {'0': 'cat'}, 'lr': 1, 'url': 'https://example.org/a.zip'}
    """
    if isinstance(value, dict):
        return {
            key: canonical(inner)
            for key, inner in sorted(((str(key), inner) for key, inner in value.items()), key=itemgetter(0))
        }
    if isinstance(value, list):
        return [canonical(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return without_secrets(value) if isinstance(value, str) else value
