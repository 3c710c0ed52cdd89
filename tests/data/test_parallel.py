"""Work shared out among threads and processes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpipe.common.errors import InputError
from imgpipe.data import parallel, processes
from imgpipe.data.parallel import by_threads, cores
from imgpipe.data.processes import by_processes


@pytest.mark.parametrize("count", [0, 1, 50])
def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(processes, "ALONE", 0.0)
    items = [str(i) for i in range(count)]
    assert list(by_threads(int, items, threads=3)) == list(range(count))
    assert list(by_processes(int, items, weigh=len, processes=3)) == list(range(count))


def test_items_are_taken_no_further_ahead_than_results_are_soon_used() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield len(taken)

    results = by_threads(str, endless(), threads=2)
    assert [next(results), next(results)] == ["1", "2"]
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 6


@pytest.mark.parametrize("size", [1, 1 << 11, 1 << 13, 3 << 14])
def test_items_that_wait_for_processes_are_bounded_in_bytes_and_in_number(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what is waited for there are at most two chunks for each process, or 32 KiB here, and the last chunk."""
    monkeypatch.setattr(processes, "CHUNK_BYTES", 1 << 12)
    monkeypatch.setattr(processes, "BYTES_AHEAD", 1 << 15)
    monkeypatch.setattr(processes, "ALONE", 0.0)
    taken: list[int] = []

    def members() -> Iterator[bytes]:
        for number in range(60):
            taken.append(number)
            yield b"x" * size

    ahead = 0
    for given, length in enumerate(by_processes(len, members(), weigh=len, processes=2), 1):
        assert length == size
        ahead = max(ahead, len(taken) - given)
    assert ahead < (2 * 2 + 2) * processes.CHUNK
    assert ahead * size <= 2 * processes.BYTES_AHEAD + 2 * max(size, processes.CHUNK_BYTES)


def test_a_process_that_is_killed_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ALONE", 0.0)
    with pytest.raises(InputError, match=r"^a process that works on images was killed; most likely memory ran out$"):
        list(by_processes(signal.raise_signal, [0, signal.SIGKILL], weigh=int, processes=2))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "350000 100000\n"}, 4),
        ({"cpu.max": "9600000 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 2),
    ],
    ids=["no groups", "no limit", "4", "3.5", "96", "no limit, version 1", "2, version 1"],
)
def test_a_container_s_cores_are_no_more_than_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    """On a machine of 64."""
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(parallel, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: range(64))
    assert cores() == expected
