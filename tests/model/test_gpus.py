"""How runs share out the GPUs of a machine: real processes, and a stand-in for NVIDIA's driver that names four GPUs."""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from stand_in_gpus import COMPILER, machine_of_four, uuid_of
from trainings import RECIPE

from imgpipe.commands.gpu_check import take_all_gpus
from imgpipe.common.errors import InputError
from imgpipe.model import gpus
from imgpipe.model.runtime import Runtime
from imgpipe.train.start import take_gpus

pytestmark = pytest.mark.skipif(COMPILER is None, reason="the stand-in for NVIDIA's driver needs a C compiler")

TAKES = """
import logging, os, sys, time
from imgpipe.model import gpus
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
count, seconds = int(sys.argv[1]), float(sys.argv[2])
share = gpus.take(gpus.visible(), lambda free: count if free >= count else 0)
print("has", *share.numbers, "shown as", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
time.sleep(seconds)
"""

Started = subprocess.Popen[str]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Environment of a process on a machine of its own with four GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is afterwards as it was
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with machine_of_four(tmp_path) as environment:
        yield environment


@pytest.fixture
def on_machine(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """This process is on the machine, too, until the test ends."""
    for name, value in machine.items():
        monkeypatch.setenv(name, value)
    yield machine
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if file.readlink().match(f"{gpus.LOCKS}/imgpipe-GPU-*"):
                os.close(int(file.name))


@pytest.fixture
def start(machine: dict[str, str]) -> Iterator[Callable[..., Started]]:
    """Starts a program on the machine; its standard output can be read line by line."""
    started = []

    def start(program: str, *arguments: object, **environment: str) -> Started:
        command = [sys.executable, "-u", "-c", program, *map(str, arguments)]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **machine, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: Started) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_four_runs_get_a_gpu_each_and_a_fifth_waits_for_that_of_one_that_is_killed(
    start: Callable[..., Started],
) -> None:
    runs = [start(TAKES, 1, 600) for _ in range(4)]
    lines = [line_of(run) for run in runs]
    assert sorted(lines) == [f"has {number} shown as {number}" for number in range(4)]
    fifth = start(TAKES, 1, 600)
    waits = line_of(fifth)
    assert waits.startswith("waiting for GPUs that other runs use: process ")
    said = dict(re.findall(r"process (\d+) on [^;]+ has (\d)", waits))
    assert said == {str(run.pid): line.split()[1] for run, line in zip(runs, lines, strict=True)}
    runs[2].kill()
    assert line_of(fifth) == lines[2]


def test_a_run_that_waits_for_several_gpus_has_none_meanwhile(start: Callable[..., Started]) -> None:
    one = start(TAKES, 1, 600)
    assert line_of(one) == "has 0 shown as 0"
    four = start(TAKES, 4, 0)
    assert line_of(four).startswith("waiting for GPUs that other runs use: process ")
    three = start(TAKES, 3, 600)
    assert line_of(three) == "has 1 2 3 shown as 1,2,3"
    three.kill()
    one.kill()
    assert line_of(four) == "has 0 1 2 3 shown as None"


def test_a_check_of_the_gpus_takes_all_and_refuses_where_a_run_has_one(
    start: Callable[..., Started], on_machine: dict[str, str]
) -> None:
    run = start(TAKES, 1, 600)
    assert line_of(run) == "has 0 shown as 0"
    with pytest.raises(InputError, match=f"^GPU 0 is used by process {run.pid} on .*; wait for it, or hide that GPU"):
        take_all_gpus()
    run.kill()
    run.wait()
    take_all_gpus()
    assert [user and user.partition(" on ")[0] for user in gpus.users(gpus.visible())] == [f"process {os.getpid()}"] * 4


def test_runs_that_want_three_of_four_at_the_same_time_get_them_one_after_the_other(
    start: Callable[..., Started],
) -> None:
    runs = [start(TAKES, 3, 0) for _ in range(4)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0, 0, 0]


@pytest.mark.parametrize("visible", ["3,1", "MIG-a3,MIG-a1"])
def test_only_gpus_that_the_user_shows_are_taken_and_by_the_user_s_names(
    start: Callable[..., Started], visible: str
) -> None:
    names = visible.split(",")
    first, second, third = (start(TAKES, 1, 600, CUDA_VISIBLE_DEVICES=visible) for _ in range(3))
    lines = {line_of(run): run for run in (first, second, third)}
    assert {line for line in lines if line.startswith("has")} == {
        f"has 0 shown as {names[0]}",
        f"has 1 shown as {names[1]}",
    }
    other = start(TAKES, 1, 600, CUDA_VISIBLE_DEVICES="0,1,2")
    assert line_of(other) == "has 0 shown as 0"


def users() -> list[str | None]:
    """Who uses each GPU, without the name of the host."""
    return [user and user.partition(" on ")[0] for user in gpus.users(gpus.visible())]


ANEW = """
import os, subprocess, time
from imgpipe.model import gpus
print(os.getpid(), flush=True)
gpus.take_one("cuda")
print(*gpus.visible(), subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(600)
"""


def test_a_program_that_starts_anew_sees_its_gpu_alone_and_has_it_until_it_ends_whatever_its_children_do(
    start: Callable[..., Started], on_machine: dict[str, str]
) -> None:
    other = start(TAKES, 1, 600)
    assert line_of(other) == "has 0 shown as 0"
    program = start(ANEW)
    assert [line_of(program), line_of(program)] == [str(program.pid)] * 2
    uuid, child = line_of(program).split()
    try:
        assert uuid == uuid_of(on_machine, 1)
        assert users() == [f"process {other.pid}", f"process {program.pid}", None, None]
        program.kill()
        program.wait()
        assert users()[1:] == [None] * 3
    finally:
        os.kill(int(child), signal.SIGKILL)


LAUNCHES = """
from imgpipe.model import gpus
from imgpipe.train.processes import restart_under_torchrun
gpus.take(gpus.visible(), lambda free: 2)
restart_under_torchrun("rank", 2, machines=1, cpu_threads=1)
"""
RANK = """
import os, time
files = [os.readlink(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd") if file != "3"]
print(os.environ["CUDA_VISIBLE_DEVICES"], any("imgpipe-GPU" in file for file in files), flush=True)
time.sleep(2)
"""


def test_torchrun_s_launcher_has_the_gpus_and_its_processes_are_shown_them(
    start: Callable[..., Started], on_machine: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    other = start(TAKES, 1, 600)
    assert line_of(other) == "has 0 shown as 0"
    launcher = start(LAUNCHES, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT / 'src'}")
    assert [line_of(launcher), line_of(launcher)] == ["1,2 False"] * 2
    assert users()[1:] == [f"process {launcher.pid}"] * 2 + [None]
    assert launcher.wait() == 0
    assert users()[1:] == [None] * 3


OWN = """
import time
from imgpipe.common.errors import exit_on_input_error
from imgpipe.model import gpus
with exit_on_input_error():
    gpus.take_one("cuda")
print("has it", flush=True)
time.sleep(600)
"""


def test_a_process_that_torchrun_started_from_outside_takes_its_own_gpu_and_refuses_one_that_is_used(
    start: Callable[..., Started], on_machine: dict[str, str]
) -> None:
    first = start(OWN, TORCHELASTIC_RUN_ID="a", LOCAL_RANK="2")
    assert line_of(first) == "has it"
    assert users() == [None, None, f"process {first.pid}", None]
    second = start(OWN, TORCHELASTIC_RUN_ID="b", LOCAL_RANK="1", CUDA_VISIBLE_DEVICES="1,2")
    assert second.wait() == 1
    assert second.stderr
    assert re.fullmatch(
        f"error: GPU 1 is used by process {first.pid} on .*; wait for it, or have torchrun take others: "
        "CUDA_VISIBLE_DEVICES\n",
        second.stderr.read(),
    )


def test_processes_train_on_as_many_free_gpus_as_share_out_the_micro_batches(
    start: Callable[..., Started], on_machine: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = start(TAKES, 1, 600)
    assert line_of(other) == "has 0 shown as 0"
    recipe = replace(RECIPE, micro_batches=4, batch_size=32)
    runtime = Runtime("auto", "auto", "auto", 1, None, False, 0)
    assert take_gpus(gpus.visible(), runtime, recipe, machines=1).numbers == [1, 2]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert caplog.messages == [
        "2 of 4 GPUs are used: 1, 2; other runs have 1; runtime.processes and train.micro_batches leave 1 free"
    ]
    with pytest.raises(InputError, match=r"runtime\.processes is 3, but there are 2 GPUs here; each process needs one"):
        take_gpus(gpus.visible(), replace(runtime, processes=3), recipe, machines=1)
