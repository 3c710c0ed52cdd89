"""Several machines train one model: torchrun's own settings in the environment, and two hosts that share no folder.

The hosts are network namespaces with a host name and a copy of the project each, joined by a virtual cable.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Project, Run, copy_of

from imgpipe.common.errors import InputError
from imgpipe.train.processes import check_process_count, largest_process_count, machine_count

TRAINED = (
    "models/best.safetensors",
    "models/last.safetensors",
    "metrics/train/history.csv",
    "metrics/train/metrics.json",
)
MEETING = {"PET_NNODES": "2", "PET_RDZV_ENDPOINT": "10.77.0.1:29500"}


@pytest.fixture
def hosts() -> Iterator[tuple[list[str], list[str]]]:
    """What to put before a command so that it runs on the first host, 10.77.0.1, or on the second, 10.77.0.2."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the ip command of iproute2")
    names = [f"imgpipe-{os.getpid()}-{i}" for i in (1, 2)]

    def ip(*command: str) -> None:
        subprocess.run(["ip", *command], capture_output=True, text=True, check=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces can't be made here: {error.stderr.strip()}")
        for i, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{i}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        named = 'echo $0 > /proc/sys/kernel/hostname && exec "$@"'
        inside = [["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", named] for name in names]
        first, second = ([*command, f"host{i}"] for i, command in enumerate(inside, 1))
        yield first, second
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def test_two_machines_make_the_same_bytes_as_one_process_and_only_the_first_writes(
    finished: Project, hosts: tuple[list[str], list[str]], tmp_path: Path
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


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"PET_NNODES": "1:2"},
            "PET_NNODES is '1:2'; it must be the number of machines, such as 2",
        ),
        (
            {"PET_NNODES": "3"},
            "PET_NNODES is 3, which does not divide the 4 of train.micro_batches; it must be 1, 2 or 4",
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
        machine_count(micro_batches=4)
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
    assert machine_count(micro_batches=4) == machines


def test_processes_on_each_machine_divide_that_machine_s_share_of_the_micro_batches() -> None:
    """8 parts on 4 machines are 2 on each."""
    assert [largest_process_count(room, micro_batches=8, machines=4) for room in (0, 1, 2, 100)] == [1, 1, 2, 2]
    check_process_count(2, micro_batches=8, machines=4, said_by="params.yaml: runtime.processes is")
    with pytest.raises(InputError) as refusal:
        check_process_count(4, micro_batches=8, machines=4, said_by="params.yaml: runtime.processes is")
    assert str(refusal.value) == (
        "params.yaml: runtime.processes is 4 on each of 4 machines, 16 in all, which does not divide the 8 of "
        "train.micro_batches; it must be 1 or 2"
    )


def test_too_many_processes_on_a_machine_are_refused_before_any_work(finished: Project, tmp_path: Path) -> None:
    project = copy_of(finished, tmp_path / "project")
    project.set(runtime__processes=4)
    run = project.run("python", "-m", "stages.train", PET_NODE_RANK="0", **MEETING)
    assert run.status == 1
    assert run.out == (
        "error: params.yaml: runtime.processes is 4 on each of 2 machines, 8 in all, which does not divide the 4 of "
        "train.micro_batches; it must be 1 or 2\n"
    )
