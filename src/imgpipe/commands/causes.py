"""Why outputs of the pipeline are others than before: what two dvc.lock say that each stage was made from."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from imgpipe.commands.params_file import shown, values_of
from imgpipe.common.packages import PACKAGES
from imgpipe.common.params import PARAMS
from imgpipe.evaluate.provenance import CODE, canonical

Lock = Mapping[str, Mapping[str, Any]]
"""What a dvc.lock holds below ``stages``: each one's ``deps``, ``params`` and ``outs``."""

LOCKED = "requirements.lock"
ROUNDS = "nothing that it is made from differs, so this machine rounds otherwise"
VERSIONS = "{} {} was committed, {} is here"
REMEDIES = {
    "portable": "docs/reproducing.md says on which processors that may not be",
    "native": "train.kernels is native, with which another kind of processor does",
}
"""What to say of it, by ``train.kernels``."""


def outputs(lock: Lock) -> dict[str, str]:
    """Return path and hash of each output."""
    return {path: md5 for stage in lock.values() for path, md5 in _hashes(stage, "outs").items()}


def causes(before: Lock, after: Lock) -> dict[str, list[str]]:
    """Return why outputs differ: what there is of each kind of cause, in the order of the stages.

    A cause is what no stage makes. So a model that differs because its images do is said to differ by what changed the
    images; and a stage whose outputs differ while nothing that it is made from does is a cause itself.
    """
    made = outputs(after)
    found: dict[str, list[str]] = {}
    for name, stage in after.items():
        was = before.get(name, {})
        if _hashes(was, "outs") == _hashes(stage, "outs"):
            continue
        changed = _changed(_hashes(was, "deps"), _hashes(stage, "deps"))
        passed_on = [path for path in changed if any(PurePosixPath(path).is_relative_to(output) for output in made)]
        own = [*_files(path for path in changed if path not in passed_on), *_parameters(was, stage)]
        if not own and not passed_on:
            own = [("other data", "data/raw")] if name == "download" else [(name, f"{ROUNDS}; {_remedy(stage)}")]
        for kind, what in own:
            if what not in found.setdefault(kind, []):
                found[kind].append(what)
    return found


def _hashes(stage: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return path and hash of each dependency or output. kind: deps or outs."""
    return {entry["path"]: entry.get("md5", "") for entry in stage.get(kind, [])}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ, or that one side lacks."""
    return [key for key in {**before, **after} if (key in before, before.get(key)) != (key in after, after.get(key))]


def _files(paths: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind of each file or folder that changed, and its path."""
    for path in paths:
        kind = "code" if path.startswith(CODE) else "packages" if path == LOCKED else "data"
        yield f"other {kind}", path


def _parameters(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the kind of each parameter and package that changed, and both values."""
    for file, kind, say in ((PARAMS, "parameters", "{} {} -> {}"), (PACKAGES, "packages", VERSIONS)):
        was, values = (
            dict(values_of(canonical(stage.get("params", {}).get(str(file), {})))) for stage in (before, after)
        )
        for key in _changed(was, values):
            yield (
                f"other {kind}",
                say.format(key, *(shown(one[key]) if key in one else "none" for one in (was, values))),
            )


def _remedy(stage: Mapping[str, Any]) -> str:
    """Return what there is to say of a stage that rounds otherwise."""
    kernels = stage.get("params", {}).get(str(PARAMS), {}).get("train", {}).get("kernels", "portable")
    return REMEDIES[kernels]
