"""prepare and pack by the workers of a Dask cluster: a real scheduler and real workers, also on two hosts."""

import itertools
import json
import operator
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project
from hosts import Hosts, NoHostsError, two_hosts
from PIL import Image

from imgpipe.common.errors import InputError
from imgpipe.common.kernels import IMAGES, OPENCV_NEWER
from imgpipe.data.processes import SCHEDULER, by_processes

WORKER = "imgpipe.commands.worker"
PLAIN_WORKER = "distributed.cli.dask_worker"
KILL_WHEN_AT_WORK = """
import os, signal, sys, time
from distributed import Client

address, worker, process = sys.argv[1:]
with Client(address) as client:
    client.wait_for_workers(2)
    print("ready", flush=True)
    workers = client.scheduler_info(n_workers=-1)["workers"]
    (place,) = [place for place, what in workers.items() if what["name"] == worker]
    while not client.processing()[place]:
        time.sleep(0.005)
os.kill(int(process), signal.SIGKILL)
"""


class Cluster:
    """A scheduler, by the file in which it writes its address, and workers of one thread."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str, path: Path = ROOT / "src") -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if name not in {*IMAGES, *OPENCV_NEWER}}
        process = subprocess.Popen(
            command,
            env={**environ, "PYTHONPATH": str(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.started.append(process)
        return process

    def dask(self, module: str, *options: str, on: list[str], **how: Path) -> subprocess.Popen[str]:
        shared = ("--scheduler-file", str(self.file), "--no-dashboard")
        return self.start(*on, sys.executable, "-m", module, *shared, *options, **how)

    def scheduler(self, host: str, on: list[str]) -> subprocess.Popen[str]:
        return self.dask("distributed.cli.dask_scheduler", "--host", host, "--port", "0", on=on)

    def worker(self, name: str, *, module: str = WORKER, on: list[str], **how: Path) -> subprocess.Popen[str]:
        return self.dask(module, "--name", name, "--nthreads", "1", "--no-nanny", on=on, **how)

    @property
    def address(self) -> str:
        def written() -> str:
            with suppress(OSError, ValueError):  # not yet, or not yet whole
                return str(json.loads(self.file.read_text(encoding="utf-8"))["address"])
            return ""

        return eventually(written)

    def end(self, *processes: subprocess.Popen[str]) -> None:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder / "scheduler.json")
    try:
        yield cluster
    finally:
        cluster.end(*cluster.started)


def eventually(found: Callable[[], str]) -> str:
    """What the function returns, as soon as that is something."""
    for _ in range(600):
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("nothing came for 30 seconds")


@pytest.fixture
def hosts() -> Iterator[tuple[Hosts, str]]:
    """Two hosts and the first one's address; where there can be none, this one twice."""
    try:
        with two_hosts() as hosts:
            yield hosts, "10.77.0.1"
    except NoHostsError:
        yield ([], []), "127.0.0.1"


def test_two_hosts_make_the_same_bytes_as_one_process_also_when_a_worker_is_killed_at_work(
    project: Project, hosts: tuple[Hosts, str], tmp_path: Path
) -> None:
    """The second host's worker is killed while images of prepare are with it; one that comes later packs, too."""
    (first, second), host = hosts
    shutil.rmtree(project.folder / "images")
    noise = np.random.default_rng(0)
    for i in range(96):
        file = project.folder / f"images/{i % 2}/{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(file, compress_level=1)
    project.set(pack__image_size=64)
    with cluster_in(tmp_path) as cluster:
        cluster.scheduler(host, on=first)
        cluster.worker("first", on=first)
        lost = cluster.worker("second", on=second)
        kill = (sys.executable, "-c", KILL_WHEN_AT_WORK, cluster.address, "second", str(lost.pid))
        killer = cluster.start(*first, *kill)
        project.here("download", "prepare", "pack")
        alone = project.fingerprint("data")
        for made in ("prepared", "packed"):
            shutil.rmtree(project.folder / "data" / made)
        assert killer.stdout
        assert killer.stdout.readline() == "ready\n"
        project.succeed(*first, "python", "-m", "stages.prepare", **{SCHEDULER: cluster.address})
        assert (killer.wait(10), lost.wait(10)) == (0, -signal.SIGKILL)
        cluster.worker("third", on=second)
        project.succeed(*first, "python", "-m", "stages.pack", **{SCHEDULER: cluster.address})
    assert project.fingerprint("data") == alone


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler on this host, which gives up images that two workers were lost with."""
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
        cluster.scheduler("127.0.0.1", on=[])
        yield cluster


@pytest.fixture
def scheduler(local: Cluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a scheduler that the environment names."""
    monkeypatch.setenv(SCHEDULER, local.address)
    return local.address


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgpipe.data import cluster

    monkeypatch.setattr(cluster, "PATIENCE", 1.0)


@pytest.fixture
def worker(local: Cluster, scheduler: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = local.worker("one", on=[])
    yield process
    local.end(process)


def test_results_come_in_the_order_of_the_items_and_are_bounded_as_those_of_processes(
    worker: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one worker with one thread two chunks wait, and a third is made."""
    taken: list[int] = []

    def items() -> Iterator[str]:
        for i in range(200):
            taken.append(i)
            yield str(i)

    ahead = 0
    for given, number in enumerate(by_processes(int, items(), weigh=len, processes=1)):
        assert number == given
        ahead = max(ahead, len(taken) - given)
    assert ahead <= 3 * 8


def other_versions(folder: Path) -> None:
    """A Python that has the packages' versions from here, and its own."""
    for name in ("numpy", "opencv_python_headless", "pillow"):
        (folder / f"{name}-1.0.dist-info").mkdir(parents=True)
        (folder / f"{name}-1.0.dist-info/METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "sitecustomize.py").write_text("import platform\nplatform.python_version = lambda: '3.99.0'\n")
    (folder / "imgpipe").symlink_to(ROOT / "src/imgpipe")


def other_code(folder: Path) -> None:
    shutil.copytree(ROOT / "src/imgpipe", folder / "imgpipe")
    with (folder / "imgpipe/prepare/near.py").open("a") as file:
        file.write("# changed\n")


def no_code(folder: Path) -> None:
    (folder / "imgpipe").mkdir(parents=True)
    (folder / "imgpipe/__init__.py").touch()


def same_code(folder: Path) -> None:
    folder.mkdir()
    (folder / "imgpipe").symlink_to(ROOT / "src/imgpipe")


@pytest.mark.parametrize(
    ("made", "module", "line"),
    [
        (
            other_versions,
            WORKER,
            r"has Python 3\.99\.0 \(not 3\.[\d.]+\), numpy 1\.0 \(not [\d.]+\), "
            r"opencv-python-headless 1\.0 \(not [\d.]+\), pillow 1\.0 \(not [\d.]+\), on which results depend",
        ),
        (other_code, WORKER, r"has imgpipe's code [0-9a-f]{12} \(not [0-9a-f]{12}\), on which results depend"),
        (same_code, PLAIN_WORKER, r"has numpy's code for its processor \(not for AVX2\), on which results depend"),
        (no_code, PLAIN_WORKER, r"can't run imgpipe: .*No module named 'imgpipe\.data'.*"),
    ],
    ids=["versions", "code", "kernels", "no imgpipe"],
)
def test_a_worker_that_differs_is_refused_before_any_work(
    made: Callable[[Path], None], module: str, line: str, local: Cluster, scheduler: str, tmp_path: Path
) -> None:
    made(tmp_path / "src")
    process = local.worker("other", module=module, on=[], path=tmp_path / "src")
    try:
        with pytest.raises(InputError) as refusal:
            list(by_processes(operator.truth, iter([1]), weigh=int, processes=1))
    finally:
        local.end(process)
    remedy = (
        "; start workers by python -m imgpipe.commands.worker, with the same commit, Python and packages as here: "
        "docs/cluster.md"
    )
    assert re.fullmatch(r"the Dask worker tcp://127\.0\.0\.1:\d+ " + line + re.escape(remedy), str(refusal.value))


def test_a_worker_that_comes_later_and_differs_is_refused_when_it_is_given_work(
    local: Cluster, worker: subprocess.Popen[str]
) -> None:
    results = by_processes(time.sleep, itertools.repeat(0.0), weigh=int, processes=1)
    next(results)
    worker.kill()
    other = local.worker("other", module=PLAIN_WORKER, on=[])
    try:
        with pytest.raises(
            InputError, match=r"^the Dask worker \S+ has numpy's code for its processor \(not for AVX2\)"
        ):
            list(results)
    finally:
        local.end(other)


def test_images_that_end_workers_are_told_in_one_line(local: Cluster, worker: subprocess.Popen[str]) -> None:
    another = local.worker("another", on=[])
    try:
        with pytest.raises(InputError) as refusal:
            list(by_processes(signal.raise_signal, [signal.SIGKILL], weigh=int, processes=1))
    finally:
        local.end(another)
    assert re.fullmatch(
        r"the same images ended 2 Dask workers; most likely memory ran out: see the log of tcp://127\.0\.0\.1:\d+",
        str(refusal.value),
    )


def test_the_loss_of_all_workers_is_told_in_one_line(
    scheduler: str, worker: subprocess.Popen[str], request: pytest.FixtureRequest
) -> None:
    results = by_processes(time.sleep, itertools.repeat(0.0), weigh=int, processes=1)
    next(results)
    worker.kill()
    request.getfixturevalue("impatient")
    with pytest.raises(InputError) as refusal:
        list(results)
    assert str(refusal.value) == f"all workers of the Dask scheduler {scheduler} were lost; start them again"


@pytest.mark.usefixtures("impatient")
def test_a_scheduler_without_workers_is_refused(scheduler: str) -> None:
    with pytest.raises(InputError) as refusal:
        list(by_processes(int, ["1"], weigh=len, processes=1))
    assert str(refusal.value) == (
        f"the Dask scheduler {scheduler} has no workers; start some by python -m imgpipe.commands.worker"
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:9", "OSError: Timed out trying to connect to tcp://127.0.0.1:9 after 1 s"),
        ("first", "ValueError: missing port number in address 'first'"),
    ],
)
def test_an_address_where_no_scheduler_answers_is_refused(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SCHEDULER, address)
    with pytest.raises(InputError) as refusal:
        list(by_processes(int, ["1"], weigh=len, processes=1))
    assert str(refusal.value) == (
        f"DASK_SCHEDULER_ADDRESS is '{address}', where no Dask scheduler answers: {reason}; start one, or unset the "
        "variable"
    )


def test_the_loss_of_the_scheduler_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with cluster_in(tmp_path) as cluster:
        lost = cluster.scheduler("127.0.0.1", on=[])
        cluster.worker("one", on=[])
        monkeypatch.setenv(SCHEDULER, cluster.address)
        results = by_processes(time.sleep, itertools.repeat(0.01), weigh=int, processes=1)
        next(results)
        lost.kill()
        with pytest.raises(InputError) as refusal:
            list(results)
        assert str(refusal.value) == f"the Dask scheduler {cluster.address} was lost; start it and its workers again"
    assert capfd.readouterr() == ("", "")


WORK = """
import itertools, time
from imgpipe.common.kernels import fix_for_images
from imgpipe.data.processes import by_processes

fix_for_images()
for _ in by_processes(time.sleep, itertools.repeat(0.01), weigh=int, processes=1):
    print("ready", flush=True)
"""


def test_an_interrupt_ends_the_work_and_leaves_none_behind(
    local: Cluster, scheduler: str, worker: subprocess.Popen[str]
) -> None:
    from distributed import Client

    process = local.start(sys.executable, "-c", WORK)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    with Client(scheduler) as client:
        eventually(lambda: "none" if not client.processing().popitem()[1] else "")
        assert worker.poll() is None


def test_without_a_scheduler_dask_is_not_imported() -> None:
    program = """
import sys
from imgpipe.data.processes import by_processes
print(list(by_processes(int, "12", weigh=len, processes=1)), {"dask", "distributed"} & set(sys.modules))
"""
    environ = {name: value for name, value in os.environ.items() if name != SCHEDULER}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 2] set()\n"
