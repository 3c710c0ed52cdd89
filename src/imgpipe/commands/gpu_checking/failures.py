"""The check of failures: how a training ends where a process fails, and where it is asked to stop."""

import signal
import time
from pathlib import Path

from imgpipe.commands.gpu_checking.launching import GRACE, Job, Say, started, waited, within
from imgpipe.commands.gpu_checking.outcome import Facts, Outcome, judged
from imgpipe.commands.gpu_checking.plan import Machine

MOST_SECONDS = 15.0
"""In which all processes end after one has failed."""
STEP = 0.8
"""Seconds that a step is longer, so that the signal comes before the end."""
STOPPED = 128 + signal.SIGTERM


def failures(machine: Machine, say: Say) -> Outcome:
    """Have memory run out on the last process, and then stop a training. Fails where it does not end as it should."""
    problems, found = [], {}
    for name, part in (("out of memory", out_of_memory), ("SIGTERM", stopped)):
        found[name] = part(machine, within(name, say))
        problems += [f"{name}: {said}" for said in found[name]["problems"]]
    seconds = found["out of memory"]["seconds"]
    passed = (
        f"out of memory on process {machine.world - 1}: all ended within {seconds:.1f} s with one line; SIGTERM: "
        f"saved, status {STOPPED}, resumed on {found['SIGTERM']['resumed on']} in the same bits"
    )
    return judged(
        problems, passed, "see that nothing else ends the processes; report it with the file of --json", found
    )


def _job(machine: Machine, folder: Path, **settings: object) -> Job:
    scale = next(iter(machine.ways.values()))
    every = {"scale": scale, "folder": str(folder), "checkpoints": str(folder / "checkpoints"), **settings}
    return machine.everywhere("stopped", every)


def _there(folder: Path) -> float | None:
    """Return when the last of this machine's processes came to where it is to end; None before one did."""
    return max((path.stat().st_mtime for path in folder.glob("there-*")), default=None)


def out_of_memory(machine: Machine, say: Say) -> Facts:
    """Have memory run out on the last process. Returns problems, seconds until all had ended, status and lines."""
    folder = machine.folder / "out-of-memory"
    job = _job(machine, folder, out_of_memory=True, pause=0)
    with started(job, folder, launch=60) as process:
        say("waiting for the end")
        ended = waited(process, job.seconds + GRACE, lambda: None)
        then = time.time()
    there = _there(folder)
    cause = (folder / f"there-{machine.world - 1}").exists()  # on this machine, and not on another
    seconds = then - (there or then)
    return judge_end(process.returncode if ended else None, _said(folder), seconds, came=there is not None, cause=cause)


def _said(folder: Path) -> list[str]:
    """Return the lines that a part's processes said, but for torch's warnings that a machine's name has no address."""
    lines = (folder / "said").read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    return [line for line in lines if not line.startswith("[W")]


def judge_end(status: int | None, lines: list[str], seconds: float, *, came: bool, cause: bool) -> Facts:
    """Judge how a training ended on this machine after a process failed.

    status: of its end; None where it did not end.
    came: whether it came so far that a process could fail.
    cause: whether the process that failed was on this machine.
    """
    errors = [line for line in lines if line.startswith("error: ")]
    problems = []
    if not came:
        problems.append("the training failed before")
    if status is None or seconds > MOST_SECONDS:
        problems.append(f"the processes ended only after {seconds:.0f} s, and {MOST_SECONDS:g} are right")
    if status not in (1, None):
        problems.append(f"exit status {status}, and 1 is right")
    if len(lines) != 1 or len(errors) != 1:
        problems.append(f"{len(lines)} lines were said, {len(errors)} of them an error, and one is right")
    elif cause and "memory does not suffice" not in errors[0]:
        problems.append(f"it says: {errors[0]}")
    return {"problems": problems, "seconds": round(seconds, 1), "status": status, "said": lines}


def stopped(machine: Machine, say: Say) -> Facts:
    """Stop a training by SIGTERM, and resume it. Returns problems, status, lines, and where it was resumed."""
    folder = machine.folder / "stopped"
    job = _job(machine, folder, out_of_memory=False, pause=STEP * machine.world / machine.parts)
    with started(job, folder, launch=70) as process:
        say("waiting for the steps before")
        while process.poll() is None and not _there(folder):
            time.sleep(0.1)  # the part ends itself where this takes too long
        process.terminate()
        waited(process, job.seconds + GRACE, lambda: say("waiting for the end"))
    found: Facts = {"problems": [], "status": process.returncode, "said": _said(folder), "resumed on": ""}
    if process.returncode != STOPPED:
        found["problems"].append(f"exit status {process.returncode}, and {STOPPED} is right")
        return found
    alone = machine.machines == 1  # only the first machine has the checkpoint
    found["resumed on"] = "1 process" if alone else f"{machine.world} processes"
    answer = _resumed(machine, folder / "checkpoints", alone, within("resumed", say))
    found["answer"] = answer
    if answer["resumed"] is None:
        found["problems"].append("no checkpoint was saved")
    found["problems"] += answer["differing"]
    return found


def _resumed(machine: Machine, checkpoints: Path, alone: bool, say: Say) -> Facts:
    """Train whole, and go on from the checkpoints; see the part ``bits``."""
    way, scale = next(iter(machine.ways.items()))
    (checkpoints.parent / "ways").mkdir()
    if checkpoints.exists():
        checkpoints.rename(checkpoints.parent / "ways" / way)
    settings = {
        "scales": {way: scale},
        "reference": str(machine.folder / "reference-of-stopped"),
        "resumed": str(checkpoints.parent / "ways"),
        "left": str(machine.folder / "resumed" / "left"),
        "leave": False,
    }
    processes, machines = (1, 1) if alone else (machine.processes, machine.machines)
    job = machine.job("bits", settings, processes=processes, machines=machines)
    answer: Facts = machine.ask("resumed", job, say, launch=71)[0][way]
    return answer
