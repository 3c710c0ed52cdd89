"""Run a part of a check in processes of its own, and say why it gave no answer where it did not.

One process is started as it is, several by torchrun's launcher, as training starts them. A part ends itself after its
time, with a note of where it was; so neither a crash nor a hang of one part ends the others. No torch is imported here.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.common.errors import InputError

FOLDER = "IMGPIPE_GPU_CHECK"
"""Environment variable that tells a part its folder: it reads job.json there, and writes what it found."""
PART = "imgpipe.commands.gpu_checking.part"
GRACE = 30.0
"""Seconds after a part's own time for torchrun's launcher to end."""
OURS = Path(__file__).resolve().parents[3]

LOCAL = {"PET_LOCAL_ADDR": "localhost"}
"""torchrun's setting of where the processes of one machine meet, where several machines have settings of their own."""

Say = Callable[[str], None]
"""Shows what is done at the moment."""


def within(what: str, say: Say) -> Say:
    """Return a function that shows this before what is done at the moment."""
    return lambda doing: say(f"{what}, {doing}" if doing else what)


class PartError(Exception):
    """Says in one line why a part gave no answer."""

    def __init__(self, reason: str, messages: Facts) -> None:
        """Take the line, and all that the processes said."""
        super().__init__(reason)
        self.messages = messages


@dataclass(frozen=True)
class Job:
    """What a part has to do."""

    part: str
    """A module of this package with a function ``found``."""
    device: str
    """``cpu`` or ``cuda``."""
    processes: int
    """On each machine."""
    machines: int
    seconds: float
    """After which the part ends itself."""
    settings: Facts

    @property
    def world(self) -> int:
        """How many processes there are, on all machines."""
        return self.processes * self.machines


def answers(job: Job, folder: Path, say: Say, *, launch: int = 0) -> list[Facts]:
    """Run a part and return what each of its processes on this machine found.

    folder: a new one for what the part leaves.
    launch: see ``meeting``.

    Raises PartError where one of them gives no answer.
    """
    with started(job, folder, launch=launch) as process:
        waited(process, job.seconds + GRACE, lambda: say(_line(folder / "doing")))
    results = [folder / f"result-{rank}.json" for rank in range(job.processes)]
    if process.returncode or not all(map(Path.exists, results)):
        raise PartError(_reason(folder, process.returncode, job), _messages(folder))
    return [json.loads(result.read_text(encoding="utf-8")) for result in results]


@contextmanager
def started(job: Job, folder: Path, *, launch: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Start a part, and end whatever is left of it after the block."""
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    others = os.environ.get("PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if job.machines > 1 or not name.startswith("PET_")}
    paths = {"PYTHONPATH": f"{OURS}{os.pathsep}{others}" if others else str(OURS)}
    apart = meeting(launch) if job.machines > 1 else LOCAL if "PET_NNODES" in os.environ else {}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", PART],
            env={**kept, **paths, **apart, FOLDER: str(folder)},
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for the check, which ends its parts
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # the launcher ends its processes
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def waited(process: subprocess.Popen[bytes], seconds: float, meanwhile: Callable[[], None]) -> bool:
    """Wait until a process ends, so many seconds at most. Returns whether it did."""
    end = monotonic() + seconds
    while monotonic() < end:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            return True
        meanwhile()
    return False


def meeting(launch: int) -> dict[str, str]:
    """Return torchrun's setting of where the machines meet for one launch: ports one after another from the given one.

    A launcher that is early would join the one before, which is about to end, where they had one port.

    launch: the same number on all machines, and another for each launch.

    Raises InputError where the given port is none.
    """
    address, port = os.environ.get("PET_MASTER_ADDR", ""), os.environ.get("PET_MASTER_PORT", "29500")
    host, _, port = os.environ.get("PET_RDZV_ENDPOINT", f"{address}:{port}").rpartition(":")
    if not port.isdecimal():
        raise InputError(f"PET_RDZV_ENDPOINT is '{os.environ['PET_RDZV_ENDPOINT']}'; it must be host:port")
    return {"PET_RDZV_ENDPOINT": f"{host}:{int(port) + launch}"}


def _reason(folder: Path, status: int | None, job: Job) -> str:
    """Return why a part gave no answer: what failed first, or where it hung, or how it ended, or the last line."""
    failures = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("failed-*.json")]
    traces = {path.stem.partition("-")[2]: path.read_text(encoding="utf-8") for path in folder.glob("trace-*.txt")}
    doing = _line(folder / "doing")
    at = f" (at {doing})" if doing else ""
    if failures:
        first = min(failures, key=lambda failure: float(failure["time"]))
        return f"process {first['rank']}{at}: {first['error']}, in {first['where']}"
    hung = {rank: where for rank, text in traces.items() if (where := _hung_in(text))}
    if hung:
        places = ", ".join(f"process {rank} was in {where}" for rank, where in sorted(hung.items()))
        return f"no answer within {job.seconds:g} seconds{at}: {places}"
    if status is None or status == -signal.SIGTERM:
        return f"no answer within {job.seconds:g} seconds{at}"
    number = -status if status < 0 else status - 128
    if number in set(signal.Signals):
        return f"ended by {signal.Signals(number).name}{at}"
    return f"ended with status {status}{at}: {_line(folder / 'said') or 'it said nothing'}"


def _hung_in(trace: str) -> str | None:
    """Return the innermost place in our code, or else in any, where the main thread was; None unless it hung."""
    if not trace.startswith("Timeout"):
        return None
    main = [line.strip() for line in trace.rpartition("Thread 0x")[2].splitlines() if line.startswith("  File")]
    places = [place(*line.removeprefix('File "').partition('", line ')[::2]) for line in main]
    ours = [text for line, text in zip(main, places, strict=True) if str(OURS) in line]
    return (ours or places or ["no Python code"])[0]


def place(file: str, rest: str) -> str:
    """Return a place in the code as people write it.

    >>> place("/home/me/src/imgpipe/train/loop.py", "125 in train_step")
    'train/loop.py:125 (train_step)'
    """
    number, _, function = rest.partition(" in ")
    return f"{'/'.join(Path(file).parts[-2:])}:{number} ({function})"


def _messages(folder: Path) -> Facts:
    """Return the lines that a part's processes said, and where they hung or crashed, by the names of the files."""
    files = [path for pattern in ("said", "trace-*.txt") for path in sorted(folder.glob(pattern))]
    return {path.name: path.read_text(encoding="utf-8", errors="backslashreplace").splitlines() for path in files}


def _line(path: Path) -> str:
    """Return the last line of a file that has something on it."""
    text = path.read_text(encoding="utf-8", errors="backslashreplace") if path.exists() else ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
