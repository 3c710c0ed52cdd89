"""Whatever kills DVC or torchrun's launcher, the processes that they started end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Project, copy_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")

CHILD = """
import os, sys
import stages
from imgpipe.train.processes import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
"""


def alive(process: int) -> bool:
    """Whether it runs: not one that has ended and waits for its parent to take note."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return bool(condition())


def test_it_ends_with_its_parent_even_after_an_exec() -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        assert alive(child)
        parent.kill()
        assert eventually(lambda: not alive(child), 5)


def test_it_ends_at_once_when_its_launcher_has_ended_before_the_call() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    environment = {**os.environ, "IMGPIPE_LAUNCHER": str(gone.pid)}
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def stage_processes(project: Project) -> Iterator[tuple[int, str]]:
    """Number and command of every process of the train stage: the stage itself or torchrun's launcher, and ranks."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_text().replace("\0", " ")
            if folder.name.isdecimal() and "stages.train" in command and (folder / "cwd").readlink() == project.folder:
                yield int(folder.name), command


def test_no_process_of_the_stage_outlives_dvc(finished: Project, tmp_path: Path) -> None:
    """/bin/sh, which DVC uses where SHELL is not set, is a shell that may stay between DVC and the stage."""
    project = copy_of(finished, tmp_path / "project")
    project.set(runtime__processes=2, train__epochs=100000)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SHELL": "/bin/sh"}
    history = project.folder / "metrics/train/history.csv"  # DVC removes it, and then the first epoch writes it
    with (tmp_path / "log").open("w+") as log:
        command = ["dvc", "repro", "--single-item", "train"]
        dvc = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=log, stderr=log)
        try:
            training = eventually(lambda: len(dict(stage_processes(project))) == 3 and history.exists(), 120)
            assert training, (tmp_path / "log").read_text()
            started = dict(stage_processes(project))
            dvc.kill()
            assert eventually(lambda: not any(map(alive, started)), 20), dict(stage_processes(project))
        finally:
            for number, _ in stage_processes(project):
                os.kill(number, signal.SIGKILL)
            dvc.kill()
            dvc.wait()
