"""``python -m imgpipe.commands.gpu_checking.part``: a process that does the work of a part of a check.

Its folder, which the environment names, has job.json: see ``launching``. Where several processes are wanted it becomes
torchrun's launcher, as training does.
"""

import faulthandler
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgpipe.commands.gpu_checking.launching import FOLDER, PART, Job, place
from imgpipe.common.errors import exit_on_input_error, one_line
from imgpipe.common.files import write_text
from imgpipe.model.runtime import started_by_torchrun
from imgpipe.train.processes import die_with_parent


def main() -> None:
    """Do the job, and write what was found."""
    folder = Path(os.environ[FOLDER])
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    die_with_parent()
    if job.world > 1 and not started_by_torchrun():
        _become_launcher(job)
    local, rank = (os.environ.get(name, "0") for name in ("LOCAL_RANK", "RANK"))
    with (folder / f"trace-{rank}.txt").open("w") as trace, exit_on_input_error():
        faulthandler.enable(trace)
        faulthandler.dump_traceback_later(job.seconds, exit=True, file=trace)
        with _recorded(folder, rank):
            import imgpipe.model.devices as devices  # torch: launchers do without, and it may fail

            found = importlib.import_module(f"imgpipe.commands.gpu_checking.{job.part}").found
        with devices.joined_world(job.device) as world, _recorded(folder, rank):
            facts = found(world, job.settings, lambda text: local == "0" and (folder / "doing").write_text(text))
            write_text(folder / f"result-{local}.json", json.dumps(facts))


def _become_launcher(job: Job) -> None:
    """Become the launcher that the train stage becomes, but without torch, which takes seconds. Does not return."""
    alone = ["--standalone"] if job.machines == 1 else []
    command = ["-m", "imgpipe.train.launcher", *alone, "--nproc-per-node", str(job.processes), "-m", PART]
    os.execve(sys.executable, [sys.executable, *command], {"OMP_NUM_THREADS": "1", **os.environ})


@contextmanager
def _recorded(folder: Path, rank: str) -> Iterator[None]:
    """Write down what the block raises, where and when: of several processes the first to fail says why."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "imgpipe" in Path(frame.filename).parts]
        innermost = (ours or frames)[-1]
        failure = {
            "rank": rank,
            "time": time.time(),
            "error": one_line(error, named=True),
            "where": place(innermost.filename, f"{innermost.lineno} in {innermost.name}"),
        }
        write_text(folder / f"failed-{rank}.json", json.dumps(failure))
        (folder / f"trace-{rank}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise


if __name__ == "__main__":
    main()
