"""Work shared out among threads or processes: results in order, and no more waiting than is soon used."""

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
"""Seconds that work goes on in one process before others are started, which takes about one."""
RUN = 8
"""Items that a process gets at a time."""


def by_threads(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """``map`` by so many threads: for what mostly waits, or computes without Python's lock."""
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, function, items, most=2 * threads)


def by_processes(function: Callable[[Item], Result], items: Iterable[Item], *, processes: int) -> Iterator[Result]:
    """``map`` by so many processes, where it takes long enough: for what is computed in Python.

    function, items, results: are sent from one process to another, so the function is one of a module.
    """
    rest = iter(items)
    started = monotonic()
    for item in rest:
        yield function(item)
        if processes > 1 and monotonic() - started > ALONE:
            break
    else:
        return
    runs: Iterator[list[Item]] = iter(lambda: list(islice(rest, RUN)), [])
    # spawned, not forked: a fork copies the locks of threads that it does not copy
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            for results in _in_order(pool, partial(_each, function), runs, most=2 * processes):
                yield from results
        except BrokenProcessPool:
            raise InputError("a process that works on images was killed; most likely memory ran out") from None


def _each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, most: int
) -> Iterator[Result]:
    """At most so many results wait, so the items may be more than fit in memory."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # whoever reads the results has stopped
            future.cancel()


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
