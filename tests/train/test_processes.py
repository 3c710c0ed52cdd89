"""Training in several processes, by real Gloo groups under torchrun's real launcher: the same bytes, and none is left.

Whatever kills DVC or the launcher, the processes that they started end.
"""

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
from stand_in_gpus import COMPILER, machine_of_four

TRAINED = ("models", "metrics/train")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")


@pytest.mark.skipif(COMPILER is None, reason="the stand-in for NVIDIA's driver needs a C compiler")
def test_dvc_trains_in_as_many_processes_as_runtime_says_and_a_gpu_is_taken_for_each(
    pipeline: Project, tmp_path: Path
) -> None:
    """The stage is told to take GPUs, which are stand-ins, and trains on the CPU all the same."""
    alone = pipeline.fingerprint(*TRAINED)
    pipeline.edit(
        "stages/train.py", "start_processes(runtime, recipe, device)", 'start_processes(runtime, recipe, "cuda")'
    )
    pipeline.set(runtime__processes=2)
    with machine_of_four(tmp_path) as machine:
        run = pipeline.succeed("dvc", "repro", "--force", "--single-item", "train", **machine)
    assert "2 of 4 GPUs are used: 0, 1; runtime.processes and train.micro_batches leave 2 free\n" in run.out
    assert run.out.count("in 2 processes\n") == 1
    assert pipeline.fingerprint(*TRAINED) == alone


def test_torchrun_from_outside_is_joined(pipeline: Project) -> None:
    alone = pipeline.fingerprint(*TRAINED)
    run = pipeline.succeed("torchrun", "--nproc-per-node", "2", "-m", "stages.train")
    assert run.out.count("in 2 processes\n") == 1
    assert pipeline.fingerprint(*TRAINED) == alone


def test_four_processes_end_in_the_bits_of_one_with_batchnorm_and_in_fp32(pipeline: Project) -> None:
    pipeline.set(
        pack__image_size=16,
        model__image_size=16,
        model__name="resnet9_narrow",
        train__precision="fp32",
        train__epochs=1,
        train__batch_size=64,
    )
    pipeline.here("pack", "train")
    alone = pipeline.fingerprint(*TRAINED)
    pipeline.set(runtime__processes=4, runtime__threads=4)
    run = pipeline.succeed("python", "-m", "stages.train")
    assert run.out.count("in 4 processes\n") == 1
    assert pipeline.fingerprint(*TRAINED) == alone


CHILD = """
import os, sys
import stages
from imgpipe.train.processes import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
os.execv(sys.executable, [sys.executable, "-c", "print('another program', flush=True); import time; time.sleep(600)"])
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


@on_linux
def test_a_process_ends_with_its_parent_even_after_an_exec() -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "another program\n"
        assert alive(child)
        parent.kill()
        assert eventually(lambda: not alive(child), 60)


@on_linux
def test_a_process_ends_at_once_when_its_launcher_has_ended_before_the_call() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    environment = {**os.environ, "IMGPIPE_LAUNCHER": str(gone.pid)}
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def stage_processes(project: Project) -> Iterator[tuple[int, str]]:
    """Number and command of every process of the train stage: the stage itself or torchrun's launcher, and ranks."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_text().replace("\0", " ")
            if folder.name.isdecimal() and "stages.train" in command and (folder / "cwd").readlink() == project.folder:
                yield int(folder.name), command


@on_linux
def test_no_process_of_the_stage_outlives_dvc_nor_a_scheduler_s_script_which_ends_when_the_training_is_saved(
    finished: Project, tmp_path: Path
) -> None:
    """The script alone gets the signal, and DVC alone from it, as from SLURM and Kubernetes.

    /bin/sh, which DVC uses where SHELL is not set, is a shell that may stay between DVC and the stage.
    """
    project = copy_of(finished, tmp_path / "project")
    project.set(runtime__processes=2, train__epochs=100000)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SHELL": "/bin/sh", "PET_NODE_RANK": "0"}
    history = project.folder / "metrics/train/history.csv"  # DVC removes it, and then the first epoch writes it
    with (tmp_path / "log").open("w+") as log:
        command = ["bash", str(ROOT / "docs/machines/machine.sh")]
        script = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=log, stderr=log)
        try:
            training = eventually(lambda: len(dict(stage_processes(project))) == 3 and history.exists(), 120)
            assert training, (tmp_path / "log").read_text()
            started = dict(stage_processes(project))
            script.terminate()
            assert script.wait(60) == 143
            assert not any(map(alive, started)), dict(stage_processes(project))
            assert "it is saved, and the next run resumes it" in (tmp_path / "log").read_text()
        finally:
            for number, _ in stage_processes(project):
                os.kill(number, signal.SIGKILL)
            script.kill()
            script.wait()


ASKED = """
import os, signal, sys
from imgpipe.train.processes import Interrupted, deferred_signals
asked = getattr(signal, sys.argv[1])
with deferred_signals() as stop_signal:
    os.kill(os.getpid(), asked)
    if number := stop_signal():
        raise Interrupted(number)
print("not asked")
"""


@pytest.mark.parametrize(("asked", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_process_that_is_asked_to_end_does_so_itself_with_the_signal_s_status(asked: str, status: int) -> None:
    assert subprocess.run([sys.executable, "-c", ASKED, asked], cwd=ROOT, check=False).returncode == status


def test_under_nohup_the_end_of_the_terminal_asks_for_nothing() -> None:
    done = subprocess.run(["nohup", sys.executable, "-c", ASKED, "SIGHUP"], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"not asked\n"
