"""Get files as they are at a commit, branch, tag or experiment of DVC, or as they lie in the workspace."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from imgpipe.common.errors import InputError, one_line

WORKSPACE = "workspace"
"""The name that DVC, too, gives to the files as they lie."""


@dataclass(frozen=True)
class Revision:
    """A state of the project, and where its files lie."""

    name: str
    """As the user gave it."""

    commit: str | None
    """The commit's hash; None of the workspace."""

    folder: Path


def matching(names: str) -> list[str]:
    """Return the names of the revisions that a user means, in the order of the numbers in them, each once.

    names: one or several, with commas between them: each as ``files_at`` takes it, or a pattern such as base-*, which
        stands for the experiments, branches and tags of such names.

    Raises InputError for a pattern that matches none.
    """
    found: list[str] = []
    for name in names.split(","):
        if set(name) & set("*?["):
            known = _known_names()
            found += sorted((one for one in known if fnmatchcase(one, name)), key=_natural)
            if not any(fnmatchcase(one, name) for one in known):
                raise InputError(
                    f"'{name}' matches no experiment, branch or tag; `dvc exp list --all-commits` lists the "
                    "experiments, queued ones once they have run"
                )
        elif not name:
            raise InputError(f"'{names}' leaves out the name of a revision; see `git branch`, `dvc exp show`")
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def _known_names() -> list[str]:
    """Return the names of all experiments that have finished, and of the branches and tags."""
    command = ["git", "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags", "refs/exps"]
    try:
        listed = subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout.split("\n")
    except OSError as error:
        raise InputError(f"git can't be run: {error.strerror}; install it") from None
    of_git = (re.fullmatch(r"refs/(?:heads|tags)/(.+)", ref) for ref in listed)
    of_dvc = (
        re.fullmatch(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)", ref) for ref in listed
    )  # dvc.repo.experiments.refs
    return list(dict.fromkeys(match[1] for match in (*of_git, *of_dvc) if match))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts base-2 before base-10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


@contextmanager
def files_at(name: str, paths: Sequence[str]) -> Iterator[Revision]:
    """Yield a revision with its files, in a folder that is there for the length of the block.

    DVC reads what its cache lacks from its default remote.

    name: WORKSPACE, or what Git or ``dvc exp show`` calls a revision, if need be abbreviated (dvc.org,
        api-reference/dvcfilesystem: ``rev``).
    paths: of the files, from the project's root; tracked by Git or DVC.

    Raises InputError outside of a project, and where there is no such revision or it lacks one of the files.
    """
    # slow to import: see __main__.py
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        root = Path(Repo.find_root())
    except NotDvcRepoError:
        raise InputError(f"'{Path.cwd()}' is in no DVC project: go to the folder of the pipeline") from None
    if name == WORKSPACE:
        for path in paths:
            if not (root / path).is_file():
                raise InputError(f"the workspace has no {path}: `dvc pull` gets it, `dvc repro` makes it")
        yield Revision(name, None, root)
        return

    with TemporaryDirectory() as folder:
        try:
            files = DVCFileSystem(root, rev=name)
            commit = files.repo.get_rev()
            there = [path for path in paths if files.exists(path)]
        except Exception as error:  # what Git and DVC raise depends on what is named: a tree, a file, 5,000 letters
            raise InputError(
                f"'{name:.200}' is no commit, branch, tag or finished experiment: {one_line(error)[:300]}; see "
                "`git branch`, `dvc exp show`"
            ) from None
        for path in paths:
            if path not in there:
                raise InputError(f"the pipeline of '{name}' makes no {path}: run its parameters with the present code")
            try:
                files.get_file(path, str(Path(folder, path)))
            except (OSError, DvcException) as error:
                raise InputError(
                    f"'{name}': {path} is in neither DVC's cache nor its remote ({error}): check '{name}' out (`git "
                    f"checkout {name}`, of an experiment `dvc exp apply {name}`), then `dvc pull` or `dvc repro`"
                ) from None
        yield Revision(name, commit, Path(folder))
