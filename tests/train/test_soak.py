"""Training killed at random steps, again and again, and run anew: in the end the same bytes as if left alone.

Each case takes another seed for what is killed, when and how. ``make soak`` runs many.
"""

import contextlib
import fcntl
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import Project, copy_of

CASES = int(os.environ.get("SOAK", "1"))
KILLS = 4 if "SOAK" in os.environ else 1
"""In each case, one after another."""
TRAINED = ("models/best.safetensors", "models/last.safetensors", "metrics/train")
CHECKPOINTS = ".dvc/tmp/imgpipe"


@pytest.fixture(scope="module")
def uninterrupted(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A training of many small steps; and dvc.lock as it was before it, in which DVC finds no result."""
    project = copy_of(finished_project, tmp_path_factory.mktemp("resume") / "project")
    project.set(
        runtime__checkpoint_every_steps=1,
        runtime__processes=1,
        model__dropout=0.2,
        train__epochs=8,
        train__batch_size=16,
        train__ema_decay=0.9,
        train__last_batch="keep",
    )
    lock = project.folder / "dvc.lock"
    before = lock.read_text()
    project.here("train")
    assert checkpoints(project) == []
    return project, before


def checkpoints(project: Project) -> list[str]:
    """Names of the checkpoints and locks there are."""
    return sorted(path.name for path in (project.folder / CHECKPOINTS).glob("**/*") if path.is_file())


def killed_after(project: Project, steps: int, victim: str, how: signal.Signals) -> tuple[int, str]:
    """Runs dvc repro, and kills one of its processes when there are so many steps more; its exit status and output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (project.folder.parent / "log").open("w+") as log:
        dvc = subprocess.Popen(
            ["dvc", "repro", "train"],
            cwd=project.folder,
            env={**os.environ, "PATH": path},
            stdout=log,
            stderr=log,
        )
        before = set(checkpoints(project))
        seen = set[str]()
        deadline = time.monotonic() + 240
        while len(seen) < steps and dvc.poll() is None:
            assert time.monotonic() < deadline, (project.folder.parent / "log").read_text()
            seen |= {name for name in checkpoints(project) if name.endswith(".pt")} - before
            time.sleep(0.01)
        running = project.processes()
        trainers = [number for number, command in running.items() if "-m stages.train" in command]
        launchers = [number for number in trainers if "imgpipe.train.processes" in running[number]]
        ranks = [number for number in trainers if number not in launchers and "sh -c" not in running[number]]
        victims = {"rank": ranks, "launcher": launchers or ranks, "dvc": [dvc.pid]}[victim]
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(victims or [dvc.pid]), how)
        dvc.wait(120)
        while any("stages.train" in command for command in project.processes().values()):
            assert time.monotonic() < deadline, project.processes()
            time.sleep(0.05)
        log.seek(0)
        return dvc.returncode, log.read()


SHELL = """
import fcntl, os, signal, subprocess, termios, time
from pathlib import Path

def hang_up(*_):
    history, patient_until = Path("metrics/train/history.csv"), time.monotonic() + 10
    before = history.read_text()
    while history.read_text() == before and time.monotonic() < patient_until:
        time.sleep(0.005)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.killpg(0, signal.SIGHUP)

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, hang_up)
subprocess.run(["dvc", "repro", "train"])
"""
"""Told that its terminal is gone, a shell tells its jobs so. Here an epoch later: meanwhile they can't write to it."""


def dropped(project: Project, after: str) -> None:
    """Runs dvc repro on a terminal of 80 columns, which is gone after this text was on it, as a connection may be.

    No checkpoint is due before. Checks that no line but DVC's is broken by the terminal.
    """
    project.set(runtime__checkpoint_every_steps=None)
    terminal, for_dvc = pty.openpty()
    fcntl.ioctl(for_dvc, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", SHELL],
        cwd=project.folder,
        env=environment,
        stdin=for_dvc,
        stdout=for_dvc,
        stderr=for_dvc,
        start_new_session=True,
    ) as dvc:
        os.close(for_dvc)
        shown = b""
        while after.encode() not in shown:
            shown += os.read(terminal, 4096)
        os.close(terminal)
        dvc.wait(120)
    deadline = time.monotonic() + 120
    while any("stages.train" in command for command in project.processes().values()):
        assert time.monotonic() < deadline, project.processes()
        time.sleep(0.05)
    told = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode()).partition("stages.train")[2]
    assert "training simple_cnn for 8 epochs of 11 steps" in told
    assert max(map(len, re.split(r"[\r\n]+", told))) <= 80, told
    project.set(runtime__checkpoint_every_steps=1)


@pytest.mark.parametrize("case", range(CASES))
def test_a_training_killed_and_run_anew_ends_in_the_same_bytes(uninterrupted: tuple[Project, str], case: int) -> None:
    random.seed(case)
    project, lock = uninterrupted
    wanted = project.fingerprint(*TRAINED)
    (project.folder / "dvc.lock").write_text(lock)
    shutil.rmtree(project.folder / ".dvc" / "cache" / "runs")  # the other place where DVC would find the result
    for output in wanted:
        (project.folder / output).unlink()
    dropped(project, after="epoch 2/8")
    assert len(checkpoints(project)) == 1, "saved because the terminal was gone"
    rwlock = project.folder / ".dvc/tmp/rwlock"  # left by a killed DVC, whose number another process may have by now
    rwlock.unlink(missing_ok=True)
    for _ in range(1, KILLS):
        project.set(runtime__processes=random.choice([1, 2]))
        victim = random.choice(["rank", "launcher", "dvc"])
        how = signal.SIGKILL if victim == "dvc" else random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
        steps = random.randint(1, 5)
        status, log = killed_after(project, steps, victim, how)
        assert status != 0, f"{victim} {how.name} after {steps} steps: {log}"
        assert "resuming " in log, log
        assert checkpoints(project), log
    rwlock.unlink(missing_ok=True)
    run = project.succeed("dvc", "repro", "train")
    assert re.search(
        r"resuming the training (in epoch \d+, after step \d+ of 11|after epoch \d+)(; epoch \d+ did best so far)?\n",
        run.out,
    )
    assert project.fingerprint(*TRAINED) == wanted
    assert checkpoints(project) == []
