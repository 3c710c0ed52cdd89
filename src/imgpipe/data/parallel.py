"""Share work out among threads: results come in order, and few are made before they are used."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Submit = Callable[[Callable[[Any], Any], Any], Future[Any]]
"""Has a pool call a function with an item."""
Await = Callable[[Future[Any]], Any]
"""Waits for what such a call returns."""

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""
CPU_TIME = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files there of the CPU time that is allowed in a period, and of the period: cgroup version 2, and 1."""


def by_threads(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Yield the function of each item, as ``map`` does, by so many threads.

    This is for a function that mostly waits, or computes without Python's lock.
    """
    with ThreadPoolExecutor(threads) as pool:
        weighed = ((item, 0) for item in items)
        yield from in_order(pool.submit, Future.result, function, weighed, limit=2 * threads, most_bytes=0)


def in_order(
    submit: Submit,
    result: Await,
    function: Callable[[Item], Result],
    weighed: Iterable[tuple[Item, int]],
    *,
    limit: int,
    most_bytes: int,
) -> Iterator[Result]:
    """Yield the results in the items' order.

    submit, result: have a pool call the function with an item, and wait for what such a call returns.
    weighed: each item, and what it and its result weigh in bytes.
    limit, most_bytes: results that may wait to be taken, and what they may weigh, so that the items may be more than
        fit in memory.
    """
    waiting: deque[tuple[Future[Result], int]] = deque()
    bytes_waiting = 0
    try:
        for item, weight in weighed:
            waiting.append((submit(function, item), weight))
            bytes_waiting += weight
            while len(waiting) > limit or bytes_waiting > most_bytes:
                bytes_waiting -= waiting[0][1]
                yield result(waiting.popleft()[0])
        while waiting:
            yield result(waiting.popleft()[0])
    finally:
        for future, _ in waiting:  # whoever reads the results has stopped
            future.cancel()


def cores() -> int:
    """Return the number of cores that this process may run on, or whose time its container may use."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in CPU_TIME:
        with suppress(OSError):  # the system has no such groups
            allowed, period = " ".join((CONTROL_GROUP / file).read_text() for file in files).split()
            if allowed.isdigit():  # else it is max, or -1
                return min(here, ceil(int(allowed) / int(period)))
    return here
