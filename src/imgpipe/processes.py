"""How many processes train, and starting them. No torch is needed to decide it."""

import os
import sys

from imgpipe.errors import InputError
from imgpipe.rules import one_of

PROCESSES = "params.yaml: runtime.processes is"


def largest_process_count(most: int, *, micro_batches: int) -> int:
    """The most processes, up to ``most``, that can share out the micro-batches of a batch evenly; at least 1."""
    return max(n for n in divisors(micro_batches) if n <= max(most, 1))


def check_process_count(processes: int, *, micro_batches: int, said_by: str) -> None:
    """Raises InputError where so many processes can't share out the micro-batches evenly; ``said_by`` begins it."""
    fitting = divisors(micro_batches)
    if processes not in fitting:
        raise InputError(
            f"{said_by} {processes}, which does not divide the {micro_batches} of train.micro_batches; "
            f"it must be {one_of(fitting)}"
        )


def divisors(number: int) -> list[int]:
    """The whole numbers that divide a number, in order."""
    return [n for n in range(1, number + 1) if number % n == 0]


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def restart_under_torchrun(module: str, processes: int, *, cpu_threads: int) -> None:
    """Becomes torchrun's launcher, which starts ``python -m module`` in so many processes. Does not return."""
    os.environ.setdefault("OMP_NUM_THREADS", str(cpu_threads))
    launcher = ["-m", "stages.launch", "--standalone", "--nproc-per-node", str(processes), "-m", module]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *launcher])
