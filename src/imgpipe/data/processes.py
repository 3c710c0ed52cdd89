"""Share work out among processes, of this machine or of a Dask cluster."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from time import monotonic
from typing import TypeVar

from imgpipe.common.errors import InputError
from imgpipe.data.parallel import Await, Submit, in_order

Item = TypeVar("Item")
Result = TypeVar("Result")

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
"""Environment variable in which Dask has the address of a scheduler."""
ALONE = 2.0
"""Seconds for which one process works before others are started, which takes about one."""
CHUNK = 8
"""Items that a process gets at a time, at the most."""
CHUNK_BYTES = 1 << 22
"""Bytes with which a process has enough for a time."""
BYTES_AHEAD = 1 << 25
"""Bytes of items and results that may wait, beside the last item, for each process."""


def by_processes(
    function: Callable[[Item], Result], items: Iterable[Item], *, weigh: Callable[[Item], int], processes: int
) -> Iterator[Result]:
    """Yield the function of each item, as ``map`` does, by so many processes where it takes more than a moment.

    Where SCHEDULER is set the workers of that Dask cluster do it, however many they are.

    This is for a function that computes in Python. It, the items and the results are pickled, so it must be a module's.

    weigh: returns about how many bytes an item and its result take in memory. Few items wait that are large.

    Raises InputError where a process was killed, or the cluster is not there or not alike: see ``cluster.workers``.
    """
    rest = iter(items)
    if scheduler := os.environ.get(SCHEDULER):
        try:
            from imgpipe.data import cluster  # Dask is an extra, and takes seconds to import
        except ModuleNotFoundError:
            raise InputError(
                f"{SCHEDULER} is set, which needs the package distributed: pip install 'imgpipe[cluster]'"
            ) from None
        with cluster.workers(scheduler) as workers:
            count = workers.threads()
            yield from _spread(workers.submit, workers.result, function, rest, weigh=weigh, processes=count)
        return
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
            yield from _spread(pool.submit, Future.result, function, rest, weigh=weigh, processes=processes)
        except BrokenProcessPool:
            raise InputError("a process that works on images was killed; most likely memory ran out") from None


def _spread(
    submit: Submit,
    result: Await,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    weigh: Callable[[Item], int],
    processes: int,
) -> Iterator[Result]:
    """Yield the function of each item, some items to a call."""
    most_bytes = processes * BYTES_AHEAD
    each = partial(_each, function)
    for results in in_order(submit, result, each, _chunks(items, weigh), limit=2 * processes, most_bytes=most_bytes):
        yield from results


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
