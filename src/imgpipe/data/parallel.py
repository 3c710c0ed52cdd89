"""Share work out among threads or processes: results come in order, and few are made before they are used."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TypeVar

from imgpipe.common.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

ALONE = 2.0
"""Seconds for which one process works before others are started, which takes about one."""
CHUNK = 8
"""Items that a process gets at a time, at the most."""
CHUNK_BYTES = 1 << 22
"""Bytes with which a process has enough for a time."""
BYTES_AHEAD = 1 << 25
"""Bytes of items and results that may wait, beside the last item, for each process."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""
CPU_TIME = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files there of the CPU time that is allowed in a period, and of the period: cgroup version 2, and 1."""


def by_threads(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Yield the function of each item, as ``map`` does, by so many threads.

    This is for a function that mostly waits, or computes without Python's lock.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, function, ((item, 0) for item in items), limit=2 * threads, most_bytes=0)


def by_processes(
    function: Callable[[Item], Result], items: Iterable[Item], *, weigh: Callable[[Item], int], processes: int
) -> Iterator[Result]:
    """Yield the function of each item, as ``map`` does, by so many processes where it takes more than a moment.

    This is for a function that computes in Python. It, the items and the results are pickled, so it must be a module's.

    weigh: returns about how many bytes an item and its result take in memory. Few items wait that are large.

    Raises InputError where a process was killed.
    """
    rest = iter(items)
    started = monotonic()
    for item in rest:
        yield function(item)
        if processes > 1 and monotonic() - started > ALONE:
            break
    else:
        return
    # spawned, not forked: a fork copies the locks of threads that it does not copy
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            for results in _in_order(
                pool,
                partial(_each, function),
                _chunks(rest, weigh),
                limit=2 * processes,
                most_bytes=processes * BYTES_AHEAD,
            ):
                yield from results
        except BrokenProcessPool:
            raise InputError("a process that works on images was killed; most likely memory ran out") from None


def _chunks(items: Iterable[Item], weigh: Callable[[Item], int]) -> Iterator[tuple[list[Item], int]]:
    """Yield the items, some at a time, and what these weigh together."""
    chunk: list[Item] = []
    weight = 0
    for item in items:
        chunk.append(item)
        weight += weigh(item)
        if len(chunk) == CHUNK or weight >= CHUNK_BYTES:
            yield chunk, weight
            chunk, weight = [], 0
    if chunk:
        yield chunk, weight


def _each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _in_order(
    pool: Executor,
    function: Callable[[Item], Result],
    weighed: Iterable[tuple[Item, int]],
    *,
    limit: int,
    most_bytes: int,
) -> Iterator[Result]:
    """Yield the results in the items' order.

    weighed: each item, and what it and its result weigh in bytes.
    limit, most_bytes: results that may wait to be taken, and what they may weigh, so that the items may be more than
        fit in memory.
    """
    waiting: deque[tuple[Future[Result], int]] = deque()
    bytes_waiting = 0
    try:
        for item, weight in weighed:
            waiting.append((pool.submit(function, item), weight))
            bytes_waiting += weight
            while len(waiting) > limit or bytes_waiting > most_bytes:
                bytes_waiting -= waiting[0][1]
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()
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
