"""Stages killed at random moments, again and again, and run anew: in the end the same bytes as if left alone.

Each case takes other moments. ``make soak`` runs many; tests/train/test_soak.py does the same with training.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import OUTPUTS, Project, copy_of

CASES = int(os.environ.get("SOAK", "1"))
KILLED = ("prepare", "pack", "evaluate", "plot") if "SOAK" in os.environ else ("pack", "evaluate")
"""In each case, one after another."""
PATIENCE = 240
"""Seconds after which a stage has hung."""


@pytest.fixture(scope="module")
def uninterrupted(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A finished pipeline; and dvc.lock as it was after the download."""
    project = copy_of(finished_project, tmp_path_factory.mktemp("kills") / "project")
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())
    lock["stages"] = {"download": lock["stages"]["download"]}
    return project, yaml.safe_dump(lock, sort_keys=False)


def kill(project: Project, stage: str) -> None:
    """Runs dvc repro, and kills all processes but DVC's own at a random moment after a stage has begun.

    The moment is some time after the start, or soon after the first file is being written. DVC writes its own files in
    place, and can't go on where it is killed just then.
    """
    log = project.folder.parent / "log"
    log.write_text("")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as file:
        dvc = subprocess.Popen(
            ["dvc", "repro"], cwd=project.folder, env={**os.environ, "PATH": path}, stdout=file, stderr=file
        )
    deadline = time.monotonic() + PATIENCE
    while f"Running stage '{stage}'" not in log.read_text():
        assert dvc.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    if random.random() < 0.5:
        time.sleep(random.uniform(0, 2))
    else:
        while dvc.poll() is None and not drafts(project):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.2))
    while dvc.poll() is None:
        for number in project.processes().keys() - {dvc.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        assert time.monotonic() < deadline, project.processes()
        time.sleep(0.01)


def drafts(project: Project) -> list[Path]:
    """What is being written, or was when its process was killed."""
    folders = [project.folder / name for name in (*OUTPUTS, "metrics/val", "metrics/test")]
    return [path for folder in folders for path in folder.glob(".*.draft")]


@pytest.mark.parametrize("case", range(CASES))
def test_stages_killed_and_run_anew_end_in_the_same_bytes(uninterrupted: tuple[Project, str], case: int) -> None:
    random.seed(case)
    project, before = uninterrupted
    lock = project.folder / "dvc.lock"
    wanted, outputs = lock.read_text(), project.fingerprint(*OUTPUTS)
    lock.write_text(before)
    for run in list((project.folder / ".dvc/cache/runs").glob("*/*/*")):  # where DVC finds the results of other stages
        if any(f"stages.{stage}\n" in run.read_text() for stage in KILLED):
            shutil.rmtree(run.parent)
    for stage in KILLED:
        kill(project, stage)
    project.succeed("dvc", "repro")
    assert lock.read_text() == wanted
    assert project.fingerprint(*OUTPUTS) == outputs  # and no draft
