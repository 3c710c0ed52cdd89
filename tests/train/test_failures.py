"""One of several processes fails: all end soon, one line says why, and the next run ends in the bytes of no failure.

Real Gloo processes under the real launcher, of a small training that saves each step.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import failing_training
import pytest
import torch
from conftest import ROOT
from trainings import goes_on

LAUNCHER = ["-m", "imgpipe.train.launcher", "--standalone", "--nproc-per-node", "2"]
ALL_END = "the training ends in all processes, and dvc repro resumes it\n"


class Ended(NamedTuple):
    status: int
    said: str
    seconds: float
    """From the failure to the end."""


def train(folder: Path, what: str, *, step: int, process: int) -> Ended:
    """Trains from the newest checkpoint on in two processes, one of which fails in a step."""
    with (folder.parent / "log").open("w+") as log:
        arguments = [str(folder), what, str(step), str(process)]
        launcher = subprocess.Popen(
            [sys.executable, *LAUNCHER, str(ROOT / "tests/failing_training.py"), *arguments],
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
            stderr=log,
            start_new_session=True,
        )
        try:
            status = launcher.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):  # none of its processes is left
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
                pytest.fail("it left processes")
        saved = max((file.stat().st_mtime for file in folder.glob("*.pt")), default=0.0)
        log.seek(0)
        return Ended(status, log.read(), time.time() - saved)


def test_whatever_fails_in_one_process_ends_all_with_one_line_and_the_next_run_ends_in_the_same_bytes(
    tmp_path: Path,
) -> None:
    """The last checkpoint is of the step before the failure."""
    folder, patience = tmp_path / "key", failing_training.PATIENCE.total_seconds()

    killed = train(folder, "killed", step=3, process=1)
    assert killed.said == (
        f"error: process 1 was killed by SIGKILL (on Linux most often since memory ran out); {ALL_END}"
    )
    stopped = train(folder, "stopped", step=2, process=1)
    assert stopped.said == f"error: another process has not answered for {patience:g} seconds; {ALL_END}"
    memory = train(folder, "memory", step=4, process=1)
    assert memory.said == (
        "error: memory does not suffice for micro-batches of 2 images (train.batch_size / micro_batches); twice the "
        "train.micro_batches halve them, and train.gradient_checkpointing takes less for each\n"
    )
    hook = train(folder, "hook", step=3, process=0)
    assert hook.said.count("Traceback") == 1
    assert hook.said.endswith("\nZeroDivisionError: a fault in the hook\n")

    assert [ended.status for ended in (killed, stopped, memory, hook)] == [1, 1, 1, 1]
    assert max(killed.seconds, stopped.seconds - patience, memory.seconds, hook.seconds) < 15

    newest = max(file.name for file in folder.glob("*.pt"))
    assert newest == "000002-000000002.pt", "3 + 2 + 4 + 3 steps, of 5 an epoch"
    state, whole = (failing_training.begun("nothing", 0) for _ in range(2))
    assert goes_on(state, failing_training.SHORT, folder)
    assert goes_on(whole, failing_training.SHORT, tmp_path / "whole")
    weights = whole.used.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in state.used.state_dict().items())
