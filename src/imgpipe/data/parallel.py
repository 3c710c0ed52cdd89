"""Share work out among threads or processes: results come in order, and few are made before they are used."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from time import monotonic
from typing import TypeVar

from imgpipe.common.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

ALONE = 2.0
"""Seconds for which one process works before others are started, which takes about one."""
CHUNK = 8
"""Items that a process gets at a time."""


def by_threads(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Yield the function of each item, as ``map`` does, by so many threads.

    This is for a function that mostly waits, or computes without Python's lock.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, function, items, limit=2 * threads)


def by_processes(function: Callable[[Item], Result], items: Iterable[Item], *, processes: int) -> Iterator[Result]:
    """Yield the function of each item, as ``map`` does, by so many processes where it takes more than a moment.

    This is for a function that computes in Python. It, the items and the results are pickled, so it must be a module's.

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
    chunks: Iterator[list[Item]] = iter(lambda: list(islice(rest, CHUNK)), [])
    # spawned, not forked: a fork copies the locks of threads that it does not copy
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            for results in _in_order(pool, partial(_each, function), chunks, limit=2 * processes):
                yield from results
        except BrokenProcessPool:
            raise InputError("a process that works on images was killed; most likely memory ran out") from None


def _each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, limit: int
) -> Iterator[Result]:
    """Yield the results in the items' order.

    limit: results that may wait to be taken, so that the items may be more than fit in memory.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # whoever reads the results has stopped
            future.cancel()


def cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
