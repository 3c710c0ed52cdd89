"""torchrun's launcher, as training uses it: ``python -m imgpipe.train.launcher`` with torchrun's arguments.

When one process fails it ends the others soon, and says in one line, or by one traceback, what was the cause. Of each
process's end it learns by its exit status and by what ``devices.joined_world`` leaves.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable

import torch.distributed.elastic.agent.server.api as agent
import torch.distributed.elastic.multiprocessing as processes
import torch.distributed.elastic.multiprocessing.api as starter
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import RunProcsResult, SignalException, SubprocessContext
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from imgpipe.model.devices import ALL_END, reason_file
from imgpipe.model.runtime import LAUNCHER

GRACE = 5
"""Seconds that the other processes have to end in when one has failed. They have nothing to save: the step that they
are in can't be finished."""

SILENT = ("Received %s death", "Sending process %s", "Unable to shutdown process %s", "failed (exitcode: %s)")
"""Beginnings of torchrun's messages on what the training itself says."""

CAUSES = {
    "SIGKILL": " (on Linux most often since memory ran out)",
    "SIGABRT": " (by NCCL, where it waited too long for another process)",
}
"""What most often sends a signal."""


class Processes(SubprocessContext):
    """The processes of this machine. Says why they end when one of them has failed."""

    def _poll(self) -> RunProcsResult | None:
        result = super()._poll()
        if result and result.is_failed():
            sys.stderr.write(self._reason(result.failures.values()))
            sys.stderr.flush()
        return result

    def _close(self, death_sig: signal.Signals, timeout: int = 30) -> None:
        self._first = set(self._failures)  # those that failed before any was told to end
        super()._close(death_sig, GRACE if self._first else timeout)

    def _reason(self, failures: Iterable[ProcessFailure]) -> str:
        """Return why the process failed that was the cause of it all; nothing where it has said so itself.

        One that was killed before the others were told to end is the cause. Otherwise it is the one whose error came
        first, since those of the others come from its end.
        """
        for failure in failures:
            if failure.local_rank in self._first and failure.exitcode < 0:
                name, rank = failure.signal_name(), self.envs[failure.local_rank]["RANK"]
                return f"error: process {rank} was killed by {name}{CAUSES.get(name, '')}; {ALL_END}\n"
        files = [file for file in map(reason_file, self.error_files.values()) if file.exists()]
        _, reason = min((json.loads(file.read_text("utf-8")) for file in files), default=(0, ""))
        return str(reason)


def main() -> None:
    """Run torchrun's launcher, and end with the exit status of the process that ended first, 1 where it was killed."""
    for module in (agent, starter):
        module.logger.addFilter(lambda record: not record.msg.startswith(SILENT))
    os.environ[LAUNCHER] = str(os.getpid())
    processes.SubprocessContext = Processes  # type: ignore[misc]  # torchrun has no argument for it
    try:
        run.main(sys.argv[1:])
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as failed:
        _, failure = failed.get_first_failure()
        sys.exit(max(failure.exitcode, 1))


if __name__ == "__main__":
    main()
