# ruff: noqa: E402
"""A small copy of the project, with its own Git and DVC, in which real stages run on real images."""

import contextlib
import fcntl
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imgpipe.common.kernels import IMAGES, NETWORK, OPENCV_NEWER, fix_for_images, fix_for_network

# Before the libraries are imported that choose their code by the processor: what tests compute is as stages compute it.
fix_for_images()
fix_for_network("portable")

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parent.parent

# As many workers as cores: with several threads each they would wait for one another. Stages set their own number.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
# Tests start many programs of the same code: what Python compiles of it is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Programs that tests start find the library that is tested; in a copy of the project, its own.
os.environ["PYTHONPATH"] = str(ROOT / "src")

FAST = {
    "runtime.processes": 1,
    "download.source": "folder",
    "download.location": "images",
    "pack.image_size": 8,
    "model.image_size": 8,
    "model.dropout": 0.2,
    "train.epochs": 2,
    "train.batch_size": 32,
    "train.cpu_threads": 1,
}


LONG = {"finished_project", "bare_project"}
"""Fixtures of tests in which stages run."""
OUTPUTS = ("data", "models", "metrics")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, module by module, at the start of either half: two workers begin with a half each.

    What is left over at the end are short ones, which one worker can take from the other. The second half has some at
    its start, too, while the first worker makes the finished project.
    """
    halves: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    long = [item for item in items if LONG & set(getattr(item, "fixturenames", ()))]
    for i, module in enumerate(dict.fromkeys(item.path for item in long)):
        halves[i % 2].extend(item for item in long if item.path == module)
    short = [item for item in items if item not in set(long)]
    meanwhile, rest = short[: len(short) // 4], short[len(short) // 4 :]
    room = max(0, len(items) // 2 - len(halves[0]))
    items[:] = [*halves[0], *rest[:room], *meanwhile, *halves[1], *rest[room:]]


@contextlib.contextmanager
def kernels_and_threads_as_they_were() -> Iterator[None]:
    """Undoes what a command sets in torch."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode("default")
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Run:
    """How a command ended: exit status, and what it printed on both streams."""

    status: int
    out: str

    @property
    def stages_run(self) -> list[str]:
        """The stages that DVC ran, in order; not those it restored from its cache."""
        return re.findall(r"Running stage '(\w+)'", self.out)

    @property
    def stages_restored(self) -> list[str]:
        return re.findall(r"Stage '(\w+)' is cached - skipping run", self.out)


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own."""

    folder: Path

    def run(self, *command: str, **environment: str) -> Run:
        """A command in the project's folder; ``python``, ``dvc`` and the like are those that run the tests."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        fixed = {*IMAGES, *OPENCV_NEWER, *NETWORK}  # the command is to do that for itself
        environ = {name: value for name, value in os.environ.items() if name not in fixed}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**environ, "PATH": path, "PYTHONPATH": "src", "COLUMNS": "300", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def succeed(self, *command: str, **environment: str) -> Run:
        run = self.run(*command, **environment)
        assert run.status == 0, run.out
        return run

    def here(self, *stages: str) -> None:
        """Runs stages in this process, which has imported already what they need; what they set in torch is undone."""
        with contextlib.chdir(self.folder), kernels_and_threads_as_they_were():
            for stage in stages:
                getattr(importlib.import_module(f"stages.{stage}"), stage)()

    def set(self, **values: object) -> None:
        """Values of params.yaml; ``train__epochs=3`` for ``train.epochs``. Comments and order stay."""
        import ruamel.yaml

        yaml = ruamel.yaml.YAML()
        path = self.folder / "params.yaml"
        params = yaml.load(path)
        for name, value in values.items():
            *sections, key = name.split("__")
            place = params
            for section in sections:
                place = place[section]
            place[key] = value
        yaml.dump(params, path)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replaces the first ``old`` in a file, which must be there."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def commit(self, message: str) -> None:
        self.succeed("git", "add", "--all")
        self.succeed("git", "commit", "--quiet", "--message", message)

    def restore(self, outputs: dict[str, bytes]) -> None:
        """Back to the last commit and to these outputs, a fingerprint."""
        self.succeed("git", "reset", "--quiet", "--hard")
        self.succeed("git", "clean", "--quiet", "-d", "--force")
        if self.fingerprint(*OUTPUTS) != outputs:
            for folder in OUTPUTS:  # files that DVC shares with its cache may not be written to
                shutil.rmtree(self.folder / folder)
            for name, content in outputs.items():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(content)

    def processes(self) -> dict[int, str]:
        """Number and command of all that runs in the project's folder."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (folder / "cwd").readlink() == self.folder and (command := (folder / "cmdline").read_bytes()):
                    found[int(folder.name)] = command.replace(b"\0", b" ").decode()
        return found

    def fingerprint(self, *folders: str) -> dict[str, bytes]:
        """Content of every file below the folders."""
        files = (file for folder in folders for file in (self.folder / folder).rglob("*") if file.is_file())
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files}


def write_images(folder: Path, count: int = 240, classes: int = 4) -> None:
    """Real images in folders: the first of scikit-learn's digits, 8 x 8 pixels, ``<class>/<number>.png``."""
    scans = load_digits(n_class=classes)
    for i, (digit, scan) in enumerate(zip(scans.target[:count], scans.images, strict=False)):
        file = folder / str(digit) / f"{i:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((scan * 15).astype(np.uint8)).save(file)


@pytest.fixture(scope="session")
def bare_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project as it is in the working tree, small parameters and images; no stage has run. Copy it to use it."""
    folder = tmp_path_factory.mktemp("bare") / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if name != "dvc.lock" and not name.endswith(("/metrics.json", "/summary.json")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    write_images(folder / "images")
    project = Project(folder)
    project.succeed("git", "init", "--quiet", "--initial-branch", "main")
    for key, value in {"user.name": "Tester", "user.email": "tester@example.org", "commit.gpgsign": "false"}.items():
        project.succeed("git", "config", key, value)
    project.set(**{name.replace(".", "__"): value for name, value in FAST.items()})
    project.commit("The project, small")
    return project


@pytest.fixture(scope="session")
def finished_project(bare_project: Project, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The small project after ``dvc repro``, all committed, made once for all workers. Copy it to use it."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent  # of all workers
    with (folder / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "finished").exists():
            project = copy_of(bare_project, folder / "unfinished")
            project.succeed("dvc", "repro")
            project.commit("Results")
            project.folder.rename(folder / "finished")
    return Project(folder / "finished")


def copy_of(project: Project, folder: Path) -> Project:
    """The project in another folder, DVC's cache and all, times of files kept."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder)


@pytest.fixture
def project(bare_project: Project, tmp_path: Path) -> Project:
    return copy_of(bare_project, tmp_path / "project")


@pytest.fixture(scope="module")
def finished(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished pipeline for the tests of one module, to look at; who changes it takes ``pipeline``."""
    return copy_of(finished_project, tmp_path_factory.mktemp("module") / "project")


@pytest.fixture
def pipeline(finished: Project) -> Iterator[Project]:
    """A finished pipeline that a test may change: it is restored afterwards."""
    before = finished.fingerprint(*OUTPUTS)
    yield finished
    finished.restore(before)
