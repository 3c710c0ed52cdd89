"""What a model file says that it was made from, against what is in this project's folder, item by item."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from imgpipe.commands.last_commit import LOCK
from imgpipe.commands.params_file import shown, values_of
from imgpipe.common import packages, params
from imgpipe.common.errors import InputError
from imgpipe.common.files import sha256_of
from imgpipe.common.kernels import problem_here
from imgpipe.common.rules import Rule
from imgpipe.evaluate.provenance import PROVENANCE, settings
from imgpipe.model.description import Description, read_head, reading

RAW = Path("data/raw")
SAME, DIFFERS, MISSING, UNKNOWN = "same", "differs", "missing", "unknown"


TEXTS = Rule("texts by name", bool)


@dataclass(frozen=True)
class Provenance:
    """What must stand in a model file: see ``evaluate.provenance.provenance``."""

    sources: Annotated[dict[str, str], Rule("the SHA-256 of one file by its name", lambda files: len(files) == 1)]
    code: Annotated[dict[str, str], TEXTS]
    parameters: Annotated[
        dict[str, Any], Rule("sections by name", lambda given: all(type(one) is dict for one in given.values()))
    ]
    packages: Annotated[dict[str, str], TEXTS]
    metrics: Annotated[dict[str, dict[str, float | None]], Rule("numbers by split and name", {"val", "test"}.issubset)]


@dataclass(frozen=True)
class ModelFile:
    """A model file that says what it was made from."""

    name: str
    sha256: str
    md5: str
    """By which dvc.lock knows it."""
    description: Description
    made_from: Mapping[str, Any]
    """See ``evaluate.provenance.provenance``."""


@dataclass(frozen=True)
class Item:
    """One thing that the model was made from, and how that is here."""

    name: str
    state: str
    """SAME, DIFFERS, MISSING; or UNKNOWN, where only making it again tells."""
    text: str


@dataclass(frozen=True)
class Commit:
    """A commit of Git's."""

    hash: str
    subject: str


def read_model(path: Path) -> ModelFile:
    """Read what a model file says of itself. Raises InputError where it is none or does not say its provenance."""
    with reading(path):
        head = read_head(path)
        description, made_from = Description.from_json(head), head.get(PROVENANCE)
        if made_from is not None:
            params.fitted(made_from, Provenance, PROVENANCE)
    if made_from is None:
        raise InputError(
            f"'{path}' does not say what it was made from; models/classifier.safetensors does, if not made by an "
            "earlier imgpipe"
        )
    content = path.read_bytes()
    sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content, usedforsecurity=False).hexdigest()
    return ModelFile(path.name, sha256, md5, description, made_from)


def compared(model: ModelFile) -> Iterator[Item]:
    """Yield what the model was made from, item by item, with all that is another here.

    To be run in the project's top folder. Raises InputError where it is none.
    """
    made_from, here = model.made_from, settings()
    yield _data(made_from["sources"])
    yield _item("code", _code(made_from["code"], here["code"]), f"{len(here['code'])} files")
    was, values = (dict(values_of(one["parameters"])) for one in (made_from, here))
    yield _item("parameters", _values(was, values), f"{len(values)} values")
    versions = _values(made_from["packages"], here["packages"])
    installed = [f"{other} is installed" for other in packages.others_installed()]
    yield _item("packages", [*versions, *installed], f"{len(here['packages'])} versions")
    yield _kernels(model.description)
    yield _commit(model.md5)


def _item(name: str, differences: Sequence[str], otherwise: str) -> Item:
    """Return an item that is the same where there are no differences. otherwise: what to say of it then."""
    return Item(name, DIFFERS, ", ".join(differences)) if differences else Item(name, SAME, otherwise)


def _data(sources: Mapping[str, str]) -> Item:
    """Compare the archive in data/raw, and ask DVC whether what it was made of has changed since."""
    ((file, sha256),) = sources.items()
    archive = next((path for path in RAW.glob("*") if not path.name.startswith(".")), None)
    if archive is None:
        return Item("data", MISSING, f"there is no archive in {RAW}; dvc pull {RAW} or dvc repro download brings it")
    got = sha256_of(archive)
    others = [] if got == sha256 else [f"{archive} has SHA-256 {got}, and {file}, of the model, {sha256}"]
    return _item("data", [*others, *_changed_source()], f"{file}, SHA-256 {sha256}")


def _changed_source() -> Iterator[str]:
    """Yield the place of the images where DVC says that it is there, and not as the download stage found it."""
    location = params.load(params.PARAMS)["download"]["location"]
    command = [sys.executable, "-m", "dvc", "status", "--json", "download"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise InputError(f"dvc status download fails: {' '.join(done.stderr.split())}")
    for change in json.loads(done.stdout).get("download", []):
        how = change.get("changed deps", {}).get(location) if isinstance(change, dict) else None
        if how not in (None, "deleted"):  # where the images are not, the archive in data/raw alone is compared
            yield f"{location} is {how} since it was downloaded"


def _code(was: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return the files that differ, or that one side alone has. was, here: digest of each file by its path."""
    where = {(True, True): "", (True, False): " (not here)", (False, True): " (only here)"}
    paths = sorted({**was, **here})
    return [path + where[path in was, path in here] for path in paths if was.get(path) != here.get(path)]


def _values(was: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ, or that one side alone has, with both."""
    said = ({key: shown(value) for key, value in one.items()} for one in (was, here))
    before, after = said
    pairs = ((key, before.get(key, "none"), after.get(key, "none")) for key in {**was, **here})
    return [f"{key} {old} -> {new}" for key, old, new in pairs if old != new]


def _kernels(description: Description) -> Item:
    """Say whether this machine computes in the same way."""
    if description.device != "cpu":
        return Item("kernels", UNKNOWN, f"of {description.device}: another model of GPU rounds otherwise")
    if description.kernels == "native":
        return Item("kernels", UNKNOWN, "native: another kind of processor rounds otherwise")
    problem = problem_here()
    return _item("kernels", [f"portable, but here {problem}"] if problem else [], "portable")


def commit_of(md5: str) -> Commit | None:
    """Return the first commit of this clone whose dvc.lock has a file with this MD5; None where there is none."""
    command = ["git", "log", "--all", "--reverse", f"-S{md5}", "--format=%H %s", "--", LOCK]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):  # there is no such program, or no repository
        return None
    first = done.stdout.partition("\n")[0]
    return Commit(*first.split(" ", 1)) if first else None


def _commit(md5: str) -> Item:
    """Find the commit that records the model."""
    commit = commit_of(md5)
    if commit is None:
        return Item("commit", MISSING, f"no commit of this clone has the model in its {LOCK}")
    return Item("commit", SAME, f"{commit.hash}, {commit.subject}")
