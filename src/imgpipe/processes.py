"""How many processes train, and starting them. No torch is imported but to count GPUs."""

import os
import sys

from imgpipe.errors import InputError


def process_count(processes: int | str, *, micro_batches: int, most: int | None = None) -> int:
    """The number of processes: the one asked for, or for ``auto`` the largest that fits.

    Each process takes an equal share of the micro-batches of every batch.
    most: what this machine has room for; used by ``auto`` alone.

    Raises InputError where the processes do not divide the micro-batches.
    """
    fitting = [n for n in range(1, micro_batches + 1) if micro_batches % n == 0]
    if processes == "auto":
        assert most is not None
        return max(n for n in fitting if n <= max(most, 1))
    if processes not in fitting:
        raise InputError(
            f"params.yaml: runtime.processes is {processes}, which does not divide the {micro_batches} of "
            f"train.micro_batches; it must be {', '.join(map(str, fitting))} or auto"
        )
    return int(processes)


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def restart_under_torchrun(module: str, processes: int, *, cpu_threads: int) -> None:
    """Becomes torchrun's launcher, which starts ``python -m module`` in so many processes. Does not return."""
    os.environ.setdefault("OMP_NUM_THREADS", str(cpu_threads))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", module]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *launcher])
