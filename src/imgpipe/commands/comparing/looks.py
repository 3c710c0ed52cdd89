"""Count how often a test split has been looked at: which models DVC and Git know that were tested on it."""

import subprocess
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imgpipe.commands.comparing.outcomes import IMAGES
from imgpipe.common.files import read_rows

LOCK = "dvc.lock"
PREDICTIONS = "metrics/test/predictions.csv"
Content = frozenset[tuple[str, int]]
"""See ``outcomes.Outcome.content``."""


@dataclass(frozen=True)
class Looks:
    """The account of a test split, or of several."""

    models: int
    """Different models that were tested on it: those that predicted differently."""
    experiments: int
    """Experiments of DVC in which that was."""
    commits: int
    """Commits in which that was."""
    unknown: int
    """Experiments and commits whose images DVC's cache no longer knows."""


def looks_at(contents: Set[Content]) -> Looks:
    """Count the models that were tested on splits of these contents, whatever the project called them then.

    All of it is in Git and in DVC's cache: the results of experiments, and of commits on any branch or tag.
    """
    from dvc.repo import Repo  # slow to import: see __main__.py

    root = Repo.find_root()
    splits: dict[str, Content | None] = {}
    models, tested, unknown = set(), Counter[str](), 0
    for kind, commit in [
        *(("commit", one) for one in _commits(root)),
        *(("experiment", one) for one in _experiments(root)),
    ]:
        outputs = _outputs(_lock(root, commit) or "")
        images, predictions = outputs.get(IMAGES), outputs.get(PREDICTIONS)
        if images is None or predictions is None:
            continue
        if images not in splits:
            splits[images] = _test_split(root, commit)
        if splits[images] is None:
            unknown += 1
        elif splits[images] in contents:
            models.add(predictions)
            tested[kind] += 1
    return Looks(len(models), tested["experiment"], tested["commit"], unknown)


def _experiments(root: str) -> list[str]:
    refs = _git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
    pairs = (line.split(" ", 1) for line in refs)
    return [commit for commit, ref in pairs if not ref.startswith(("refs/exps/exec/", "refs/exps/celery/"))]


def _commits(root: str) -> list[str]:
    """Return the commits of branches and tags that changed the lock."""
    return _git(root, "log", "--branches", "--tags", "--format=%H", "--", LOCK).splitlines()


def _lock(root: str, commit: str) -> str | None:
    """Return the text of the lock at a commit; None where it has none."""
    command = ["git", "-C", root, "show", f"{commit}:./{LOCK}"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return done.stdout if done.returncode == 0 else None


def _outputs(lock: str) -> Mapping[str, str]:
    """Return the hashes of the outputs in a lock, by path."""
    import ruamel.yaml  # takes a tenth of a second

    stages: Mapping[str, Any] = (ruamel.yaml.YAML(typ="safe").load(lock) or {}).get("stages", {})
    outs = (out for stage in stages.values() for out in stage.get("outs", []))
    return {out["path"]: out["md5"] for out in outs if "md5" in out}


def _test_split(root: str, commit: str) -> Content | None:
    """Return the content of a commit's test split; None where it is nowhere."""
    from dvc.api import DVCFileSystem  # slow to import: see __main__.py
    from dvc.exceptions import DvcException

    with TemporaryDirectory() as folder:
        copy = Path(folder, "images.csv")
        try:
            DVCFileSystem(root, rev=commit).get_file(IMAGES, str(copy))
        except (OSError, DvcException):
            return None
        return frozenset(Counter(row["pixels"] for row in read_rows(copy) if row["split"] == "test").items())


def _git(root: str, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], capture_output=True, encoding="utf-8", check=True).stdout
