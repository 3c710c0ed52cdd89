"""The processes that train: how many there are, how they start under torchrun, and how they are told to stop.

Importing this takes no torch, since params.yaml's check does.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from imgpipe.common.errors import InputError
from imgpipe.common.rules import one_of
from imgpipe.model.runtime import LAUNCHER

PROCESSES = "params.yaml: runtime.processes is"
"""Begins an error about the number of processes."""


def machine_count(*, micro_batches: int, batch_size: int) -> int:
    """Return how many machines train together, by torchrun's own settings in the environment; 1 without them.

    micro_batches, batch_size: of a batch, over all machines.

    Raises InputError where so many can't share out the micro-batches evenly, where they would not find one another, and
    where DVC runs on one that writes nothing.
    """
    asked = os.environ.get("PET_NNODES", "1")
    low, _, high = asked.partition(":")
    if not low.isdecimal() or high not in ("", low) or int(low) == 0:
        raise InputError(f"PET_NNODES is '{asked}'; it must be the number of machines, such as 2")
    machines = int(low)
    if machines == 1:
        return 1
    check_process_count(
        machines, micro_batches=micro_batches, batch_size=batch_size, machines=1, said_by="PET_NNODES is"
    )
    fixed_ranks = os.environ.get("PET_RDZV_BACKEND", "static") == "static"
    if "PET_RDZV_ENDPOINT" not in os.environ and not (fixed_ranks and "PET_MASTER_ADDR" in os.environ):
        raise InputError(
            f"PET_NNODES is {machines}, but nothing says where the machines meet; set PET_RDZV_ENDPOINT to host:port "
            "of the first, the same on all"
        )
    if fixed_ranks and "PET_NODE_RANK" not in os.environ:
        raise InputError(
            f"PET_NNODES is {machines}, but PET_NODE_RANK is not set; it is 0 on the first machine, which writes the "
            f"outputs, and {one_of(range(1, machines))} on the other{'s' if machines > 2 else ''}"
        )
    if fixed_ranks and os.environ["PET_NODE_RANK"] != "0" and "DVC_STAGE" in os.environ:
        raise InputError(
            f"DVC runs here on machine {os.environ['PET_NODE_RANK']}, and only machine 0 writes what it waits for; "
            "run python -m stages.train here, and DVC there"
        )
    return machines


def check_process_count(processes: int, *, micro_batches: int, batch_size: int, machines: int, said_by: str) -> None:
    """Check that so many processes on each machine can share out a batch's micro-batches evenly.

    micro_batches: a power of two that divides batch_size.
    machines: a number that divides micro_batches.
    said_by: begins the error, such as PROCESSES.

    Raises InputError where they can't. It names the nearest numbers that can.
    """
    fitting = divisors(micro_batches // machines)
    if processes in fitting:
        return
    on_each = f" on each of {machines} machines, {machines * processes} in all" if machines > 1 else ""
    nearest = [max(n for n in fitting if n < processes), *[n for n in fitting if n > processes][:1]]
    more = with_more_micro_batches(processes, micro_batches=micro_batches, batch_size=batch_size, machines=machines)
    raise InputError(
        f"{said_by} {processes}{on_each}, which does not divide the {micro_batches} of train.micro_batches; make it "
        f"{one_of(nearest)}, with the same result{f', or {more}' if more else ''}"
    )


def with_more_micro_batches(most: int, *, micro_batches: int, batch_size: int, machines: int) -> str:
    """Say how many processes there could be on each machine with more micro-batches; nothing if no more than now.

    most: the most processes that there may be on each machine.

    >>> with_more_micro_batches(6, micro_batches=2, batch_size=64, machines=1)
    '4 with train.micro_batches 4 and another result, since BatchNorm sees 16 images at once and not 32'
    """
    more = [n for n in divisors(batch_size) if n & (n - 1) == 0 and micro_batches < n <= most * machines]
    if not more:
        return ""
    return (
        f"{more[-1] // machines} with train.micro_batches {more[-1]} and another result, since BatchNorm sees "
        f"{batch_size // more[-1]} images at once and not {batch_size // micro_batches}"
    )


def largest_process_count(most: int, *, micro_batches: int, machines: int) -> int:
    """Return the most processes on each machine that can share out a batch's micro-batches evenly.

    most: the most that there may be; where it is below 1, there is one process all the same.
    """
    return max(n for n in divisors(micro_batches // machines) if n <= max(most, 1))


def divisors(number: int) -> list[int]:
    """Return the whole numbers that divide a number, in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [n for n in range(1, number + 1) if number % n == 0]


def restart_under_torchrun(module: str, processes: int, *, machines: int, cpu_threads: int) -> None:
    """Become torchrun's launcher (``launcher.py``), which starts a module anew in so many processes. Does not return.

    With several machines the launcher joins the others', as torchrun's own settings in the environment say.
    """
    from imgpipe.train import launcher  # not on top: it takes torch

    os.environ.setdefault("OMP_NUM_THREADS", str(cpu_threads))
    alone = ["--standalone"] if machines == 1 else []
    command = ["-m", launcher.__name__, *alone, "--nproc-per-node", str(processes), "-m", module]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *command])


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""By which a process is asked to end: by a scheduler, by Ctrl-C, and when its terminal is gone."""


@contextmanager
def deferred_signals() -> Iterator[Callable[[], int]]:
    """Note SIGTERM, SIGINT and SIGHUP within the block instead of ending. A SIGHUP that nohup ignores stays ignored.

    Yields a function that returns the number of the first of them that came, 0 before one did.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    before = {number: signal.signal(number, note) for number in SIGNALS if number not in ignored}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupted(SystemExit):
    """Ends the process as the signal would have: exit status 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Make Linux send this process SIGTERM when its parent ends, at once if that has ended already.

    It goes on through an exec, and is not handed on to children. A parent that ended before this call is recognised if
    it left its number under LAUNCHER. Strictly the parent is the thread that started this process. Elsewhere than on
    Linux nothing happens.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return
    parent = int(os.environ.get(LAUNCHER, os.getppid()))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
