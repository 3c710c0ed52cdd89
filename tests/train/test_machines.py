"""Several machines train one model: torchrun's own settings in the environment, and two hosts, each with a copy
of the project, that share no folder.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, Project, Run, copy_of
from hosts import Hosts, NoHostsError, two_hosts

from imgpipe.common.errors import InputError
from imgpipe.train.processes import PROCESSES, check_process_count, largest_process_count, machine_count

TRAINED = (
    "models/best.safetensors",
    "models/last.safetensors",
    "metrics/train/history.csv",
    "metrics/train/metrics.json",
)
MEETING = {"PET_NNODES": "2", "PET_RDZV_ENDPOINT": "10.77.0.1:29500"}


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    try:
        with two_hosts() as hosts:
            yield hosts
    except NoHostsError as error:
        pytest.skip(str(error))


def test_two_machines_make_the_same_bytes_as_one_process_and_only_the_first_writes(
    finished: Project, hosts: Hosts, tmp_path: Path
) -> None:
    alone = {name: (finished.folder / name).read_bytes() for name in TRAINED}
    projects = [copy_of(finished, tmp_path / name) for name in ("first", "second")]
    for project in projects:
        for name in TRAINED:
            (project.folder / name).unlink()
    commands = [["dvc", "repro", "--force", "--single-item", "train"], ["python", "-m", "stages.train"]]

    def run(i: int) -> Run:
        return projects[i].run(*hosts[i], *commands[i], GLOO_SOCKET_IFNAME="eth0", PET_NODE_RANK=str(i), **MEETING)

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(run, range(2)))
    assert [done.status for done in runs] == [0, 0], "\n".join(done.out for done in runs)
    assert "in 2 processes" in runs[0].out
    assert {name: (projects[0].folder / name).read_bytes() for name in TRAINED} == alone
    assert not any((projects[1].folder / name).exists() for name in TRAINED)


def test_gpu_check_on_two_machines_sums_over_the_processes_of_both(hosts: Hosts, tmp_path: Path) -> None:
    """Each machine says the same; the sum goes machine by machine."""

    def run(i: int) -> subprocess.CompletedProcess[str]:
        check = [sys.executable, "-m", "imgpipe.commands", "gpu-check", "--device", "cpu", "--only", "exchange"]
        environment = {**os.environ, **MEETING, "GLOO_SOCKET_IFNAME": "eth0", "PET_NODE_RANK": str(i)}
        return subprocess.run(
            [*hosts[i], *check], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(run, range(2)):
            facts, exchange = done.stdout.splitlines()
            assert (done.returncode, done.stderr) == (0, "")
            assert facts.endswith("2 processes on each of 2 machines by Gloo")
            assert exchange.startswith("passed    exchange ")
            assert "sums over 4 processes are those of the tree to the bit" in exchange


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"PET_NNODES": "1:2"},
            "PET_NNODES is '1:2'; it must be the number of machines, such as 2",
        ),
        (
            {"PET_NNODES": "3"},
            "PET_NNODES is 3, which does not divide the 4 of train.micro_batches; make it 2 or 4, with the same result",
        ),
        (
            {"PET_NNODES": "2", "PET_NODE_RANK": "0"},
            "PET_NNODES is 2, but nothing says where the machines meet; set PET_RDZV_ENDPOINT to host:port of the "
            "first, the same on all",
        ),
        (
            {"PET_NNODES": "2", "PET_RDZV_BACKEND": "c10d", "PET_MASTER_ADDR": "10.77.0.1"},
            "PET_NNODES is 2, but nothing says where the machines meet; set PET_RDZV_ENDPOINT to host:port of the "
            "first, the same on all",
        ),
        (
            MEETING,
            "PET_NNODES is 2, but PET_NODE_RANK is not set; it is 0 on the first machine, which writes the outputs, "
            "and 1 on the other",
        ),
        (
            {**MEETING, "PET_NODE_RANK": "1", "DVC_STAGE": "train"},
            "DVC runs here on machine 1, and only machine 0 writes what it waits for; run python -m stages.train "
            "here, and DVC there",
        ),
    ],
    ids=["a range", "three", "no meeting place", "no meeting place for c10d", "no rank", "DVC on the second"],
)
def test_machines_that_could_not_train_together_are_refused(
    settings: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refusal:
        machine_count(micro_batches=4, batch_size=128)
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    ("settings", "machines"),
    [
        ({}, 1),
        ({"PET_NNODES": "1:1"}, 1),
        ({**MEETING, "PET_NODE_RANK": "1"}, 2),
        ({"PET_NNODES": "2:2", "PET_MASTER_ADDR": "first", "PET_NODE_RANK": "0", "DVC_STAGE": "train"}, 2),
        ({**MEETING, "PET_NNODES": "4", "PET_RDZV_BACKEND": "c10d"}, 4),
    ],
    ids=["nothing set", "one", "an endpoint", "a master", "c10d"],
)
def test_machines_are_counted_as_torchrun_counts_them(
    settings: dict[str, str], machines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert machine_count(micro_batches=4, batch_size=128) == machines


def test_processes_on_each_machine_divide_that_machine_s_share_of_the_micro_batches() -> None:
    """8 parts on 4 machines are 2 on each."""
    assert [largest_process_count(room, micro_batches=8, machines=4) for room in (0, 1, 2, 100)] == [1, 1, 2, 2]
    check_process_count(2, micro_batches=8, batch_size=128, machines=4, said_by=PROCESSES)
    with pytest.raises(InputError) as refusal:
        check_process_count(4, micro_batches=8, batch_size=128, machines=4, said_by=PROCESSES)
    assert str(refusal.value) == (
        "params.yaml: runtime.processes is 4 on each of 4 machines, 16 in all, which does not divide the 8 of "
        "train.micro_batches; make it 2, with the same result, or 4 with train.micro_batches 16 and another result, "
        "since BatchNorm sees 8 images at once and not 16"
    )


@pytest.mark.parametrize(
    ("processes", "micro_batches", "batch_size", "machines", "advice"),
    [
        (3, 4, 128, 1, "2 or 4, with the same result"),
        (5, 8, 128, 1, "4 or 8, with the same result"),
        (6, 8, 128, 1, "4 or 8, with the same result"),
        (7, 8, 128, 1, "4 or 8, with the same result"),
        (7, 4, 128, 1, "4, with the same result"),
        (
            8,
            4,
            128,
            1,
            "4, with the same result, or 8 with train.micro_batches 8 and another result, since BatchNorm sees 16 "
            "images at once and not 32",
        ),
        (
            6,
            2,
            128,
            1,
            "2, with the same result, or 4 with train.micro_batches 4 and another result, since BatchNorm sees 32 "
            "images at once and not 64",
        ),
        (3, 8, 128, 4, "2, with the same result"),
        (64, 32, 96, 1, "32, with the same result"),
    ],
)
def test_a_refusal_names_the_nearest_numbers_that_do_and_what_changes(
    processes: int, micro_batches: int, batch_size: int, machines: int, advice: str
) -> None:
    """Micro-batches are a power of two that divides the batch, so 5 to 7 processes never do, and 64 not for 96."""
    with pytest.raises(InputError) as refusal:
        check_process_count(
            processes, micro_batches=micro_batches, batch_size=batch_size, machines=machines, said_by=PROCESSES
        )
    assert str(refusal.value).partition("; make it ")[2] == advice


def test_the_table_says_how_many_processes_train_on_1_to_8_machines_of_1_to_8_gpus() -> None:
    """Of machines, and of the GPUs of each, the largest power of two that there is."""
    text = (ROOT / "docs/machines.md").read_text(encoding="utf-8")
    names, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.partition("## How many GPUs train")[2].partition("\n**")[0].splitlines()
        if line.startswith("|")
    )
    said = {
        (machines, gpus): int(cell)
        for row in rows
        for name, cell in zip(names[1:], row[1:], strict=True)
        for machines in numbers(row[0])
        for gpus in numbers(name)
    }
    used = {1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 4, 8: 8}
    assert said == {(machines, gpus): used[machines] * used[gpus] for machines in used for gpus in used}
    for (machines, gpus), processes in said.items():
        each = largest_process_count(gpus, micro_batches=64, machines=used[machines])
        assert used[machines] * each == processes


def numbers(text: str) -> list[int]:
    """Return the numbers that a cell such as "4 to 7 machines" stands for."""
    first, *last = (int(word) for word in text.split() if word.isdecimal())
    return list(range(first, last[0] + 1 if last else first + 1))


def test_too_many_processes_on_a_machine_are_refused_before_any_work(finished: Project, tmp_path: Path) -> None:
    project = copy_of(finished, tmp_path / "project")
    project.set(runtime__processes=4)
    run = project.run("python", "-m", "stages.train", PET_NODE_RANK="0", **MEETING)
    assert run.status == 1
    assert run.out == (
        "error: params.yaml: runtime.processes is 4 on each of 2 machines, 8 in all, which does not divide the 4 of "
        "train.micro_batches; make it 2, with the same result, or 4 with train.micro_batches 8 and another result, "
        "since BatchNorm sees 4 images at once and not 8\n"
    )


def test_a_process_killed_on_one_machine_ends_the_launchers_of_both_within_seconds(
    hosts: Hosts, tmp_path: Path
) -> None:
    """By Gloo: the connections of the process that is gone are closed."""
    said, ended = list[str](), list[float]()
    launcher = [sys.executable, "-m", "imgpipe.train.launcher", "--nnodes=2", "--nproc-per-node=1"]
    script = [str(ROOT / "tests/failing_training.py"), str(tmp_path / "key"), "killed", "3", "1"]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{ROOT / 'tests'}", "GLOO_SOCKET_IFNAME": "eth0"}
    started = [
        subprocess.Popen(
            [*host, *launcher, f"--node-rank={i}", "--rdzv-endpoint=10.77.0.1:29500", *script],
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, host in enumerate(hosts)
    ]
    for process in started:
        _, lines = process.communicate(timeout=60)
        said.append(
            re.sub(r"\[W.*hostname of the client socket cannot be retrieved.*\n", "", lines)
        )  # of torch's store
        ended.append(time.time())
    end = "the training ends in all processes, and dvc repro resumes it\n"
    assert [process.returncode for process in started] == [1, 1]
    assert said == [
        f"error: the connection to another process is lost, which may say why; {end}",
        f"error: process 1 was killed by SIGKILL (on Linux most often since memory ran out); {end}",
    ]
    assert max(ended) - max(file.stat().st_mtime for file in (tmp_path / "key").glob("*.pt")) < 15
