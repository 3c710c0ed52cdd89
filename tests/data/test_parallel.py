"""Work shared out among threads and processes."""

import signal
from collections.abc import Iterator

import pytest

from imgpipe.common.errors import InputError
from imgpipe.data import parallel
from imgpipe.data.parallel import by_processes, by_threads


@pytest.mark.parametrize("count", [0, 1, 50])
def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(parallel, "ALONE", 0.0)
    items = [str(i) for i in range(count)]
    assert list(by_threads(int, items, threads=3)) == list(range(count))
    assert list(by_processes(int, items, processes=3)) == list(range(count))


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


def test_a_process_that_is_killed_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ALONE", 0.0)
    with pytest.raises(InputError, match=r"^a process that works on images was killed; most likely memory ran out$"):
        list(by_processes(signal.raise_signal, [0, signal.SIGKILL], processes=2))
