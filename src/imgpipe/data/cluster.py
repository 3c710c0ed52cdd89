"""Share work out among the workers of a Dask cluster, each of which computes as this process does or is refused.

Dask is an extra, and takes seconds to import: this module is imported only where there is a cluster to use.
"""

import asyncio
import logging
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from os import environ
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import dask
from distributed import Client, KilledWorker, get_worker

from imgpipe.common import packages
from imgpipe.common.errors import InputError, one_line
from imgpipe.common.files import digest_of
from imgpipe.common.kernels import IMAGES
from imgpipe.common.wording import counted

Item = TypeVar("Item")
Result = TypeVar("Result")
Facts = dict[str, str]
"""What may show in results, by its name: versions, the code, and which of numpy's code runs."""

PATIENCE = 15.0
"""Seconds for which the scheduler may not answer, or have no worker."""
LARGEST = "1 GiB"
"""What Dask may be sent at once without a warning that it had better be elsewhere already; images never are."""
STARTED_BY = "python -m imgpipe.commands.worker"
ALIKE = f"start workers by {STARTED_BY}, with the same commit, Python and packages as here: docs/cluster.md"


class Workers:
    """The workers of a scheduler, as an executor of concurrent.futures."""

    def __init__(self, client: Client, scheduler: str, facts: Facts) -> None:
        self._client: Any = client
        self._scheduler = scheduler
        self._facts = facts

    def threads(self) -> int:
        """Return how many calls they work on at once. Raises InputError where the scheduler does not answer."""
        try:
            return sum(self._client.sync(self._client.scheduler.ncores, callback_timeout=PATIENCE).values())
        except OSError:
            raise self._lost() from None

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Have a worker call the function, and another one where that worker is lost."""
        task = self._client.submit(_called_where_alike, function, item, self._facts, pure=False)
        # not by the client's executor, whose futures never end where a result is lost and its call then fails
        gathered = self._client.gather(task, asynchronous=True)
        return asyncio.run_coroutine_threadsafe(gathered, self._client.loop.asyncio_loop)

    def result(self, future: Future[Result]) -> Result:
        """Wait for what a call returns. Raises InputError where workers or scheduler are lost, or a worker differs."""
        there = monotonic()
        while not wait([future], timeout=1).done:
            if self.threads():
                there = monotonic()
            elif monotonic() - there > PATIENCE:
                raise InputError(f"all workers of the Dask scheduler {self._scheduler} were lost; start them again")
        try:
            return future.result()
        except KilledWorker as error:
            count = counted(error.allowed_failures + 1, "Dask worker")
            raise InputError(
                f"the same images ended {count}; most likely memory ran out: see the log of {error.last_worker.address}"
            ) from None
        except CancelledError:
            raise self._lost() from None

    def _lost(self) -> InputError:
        return InputError(f"the Dask scheduler {self._scheduler} was lost; start it and its workers again")


@contextmanager
def workers(scheduler: str) -> Iterator[Workers]:
    """Yield the workers that a scheduler has; more may come, and some may go.

    scheduler: its address, as Dask has it.

    Raises InputError where it does not answer, has no workers, or one of them differs from this process.
    """
    for name in ("distributed", "distributed.client"):  # what matters of what they log is an error here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": LARGEST}):
        try:
            client = Client(scheduler, timeout=PATIENCE)
        except Exception as error:  # whatever it is that answers
            raise InputError(
                f"DASK_SCHEDULER_ADDRESS is '{scheduler}', where no Dask scheduler answers: "
                f"{one_line(error, named=True)}; start one, or unset the variable"
            ) from None
        with client:
            facts = facts_here((*OWN, "distributed", *packages.read()))
            _check_workers(client, scheduler, facts)
            yield Workers(client, scheduler, facts)


def _check_workers(client: Client, scheduler: str, facts: Facts) -> None:
    """Raise InputError where there are no workers, or one has other facts."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise InputError(f"the Dask scheduler {scheduler} has no workers; start some by {STARTED_BY}") from None
    for worker, theirs in client.run(facts_here, tuple(facts), on_error="return").items():
        if isinstance(theirs, Exception):
            raise InputError(f"the Dask worker {worker} can't run imgpipe: {one_line(theirs)}; {ALIKE}")
        _check_alike(worker, theirs, facts)


def _check_alike(worker: str, theirs: Facts, facts: Facts) -> None:
    """Raise InputError where a worker differs from the process that it works for, which has these facts."""
    if others := [f"{name} {theirs[name]} (not {value})" for name, value in facts.items() if theirs[name] != value]:
        raise InputError(f"the Dask worker {worker} has {', '.join(others)}, on which results depend; {ALIKE}")


def _called_where_alike(function: Callable[[Item], Result], item: Item, facts: Facts) -> Result:
    """Call the function where this worker has the facts: it may have come after the others were asked."""
    _check_alike(get_worker().address, facts_here(tuple(facts)), facts)
    return function(item)


@cache  # what was loaded stays loaded, whatever becomes of the files
def facts_here(names: tuple[str, ...]) -> Facts:
    """Return facts of this process by their names: those of OWN, and packages."""
    return {name: OWN[name]() if name in OWN else _version(name) for name in names}


def _version(package: str) -> str:
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "none"


OWN: dict[str, Callable[[], str]] = {
    "Python": platform.python_version,
    "imgpipe's code": lambda: digest_of(Path(__file__).parents[1])[:12],
    "numpy's code": lambda: "for AVX2" if IMAGES.items() <= environ.items() else "for its processor",
}
"""What is to be known of a process beside its packages; its code by a digest."""
