"""``imgpipe gpu-check``: does training keep here what it promises? By trying it on this machine's own GPUs."""

import json
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imgpipe.commands.gpu_checking.checks import CHECKS, run, with_processes
from imgpipe.commands.gpu_checking.launching import Say, within
from imgpipe.commands.gpu_checking.outcome import Facts, Name, Outcome, Status
from imgpipe.commands.gpu_checking.plan import Machine
from imgpipe.commands.gpu_record import code_digest, write_record
from imgpipe.commands.writing import place_of, writing
from imgpipe.common.errors import InputError
from imgpipe.common.files import write_text
from imgpipe.common.kernels import fix_for_gpus
from imgpipe.common.safe_text import printable
from imgpipe.common.wording import counted
from imgpipe.model import gpus
from imgpipe.train.processes import machine_count

MOST_PROCESSES = 1024
"""On all machines."""
CPU_PROCESSES = 2
"""With --device cpu, unless another number is given."""


class Device(StrEnum):
    CUDA = "cuda"
    CPU = "cpu"


def gpu_check(
    device: Annotated[Device, typer.Option(help="cpu runs what makes sense without a GPU, and smaller.")] = Device.CUDA,
    processes: Annotated[
        int | None,
        typer.Option(help="On each machine, a power of two.", show_default=f"one a GPU; {CPU_PROCESSES} on the CPU"),
    ] = None,
    only: Annotated[
        list[Name] | None, typer.Option(help="A check to run, beside facts; may be given again.", show_default="all")
    ] = None,
    to_file: Annotated[Path | None, typer.Option("--json", help="A file for every number, digest and message.")] = None,
) -> None:
    """Try on this machine's GPUs that training keeps what it promises: same bits, speed, how it ends.

    It takes minutes, and needs no images: they are synthetic. On several machines run it on each, with torchrun's
    settings in the environment. The exit status is 1 where a check fails.
    """
    fix_for_gpus()  # what is not heeded in training is not for the checks
    place = to_file and place_of(to_file)
    if processes is not None and (processes < 1 or processes & (processes - 1)):
        raise InputError(f"--processes is {processes}; it must be a power of two, such as 1, 2, 4 or 8")
    machines = machine_count(micro_batches=MOST_PROCESSES, batch_size=MOST_PROCESSES)
    names = [name for name in CHECKS if not only or name in only or name == Name.FACTS]
    if device == Device.CUDA:
        take_all_gpus()
    with tempfile.TemporaryDirectory(prefix="imgpipe-gpu-check-") as folder:
        asked = processes or (CPU_PROCESSES if device == Device.CPU else 0)
        report = examine(Machine(device, asked, machines, Path(folder)), names)
    if place:
        with writing(place):
            write_text(place, json.dumps(report, indent=2) + "\n")
    failed = [check["name"] for check in report["checks"] if check["status"] == Status.FAILED]
    found = report["checks"][0]["found"]
    if device == Device.CUDA and not only and Path("dvc.yaml").exists():
        write_record(
            Path.cwd(),
            passed=not failed,
            gpus=[gpu["name"] for gpu in found.get("gpus", [])],
            torch=found.get("torch", ""),
        )
    if failed:
        typer.echo(f"{counted(len(failed), 'check')} failed: {', '.join(failed)}")
        raise typer.Exit(1)


def take_all_gpus() -> None:
    """Keep other runs away from the GPUs that CUDA shows, until this process ends.

    Raises InputError where another run uses one of them, which would spoil what is measured.
    """
    uuids = gpus.visible()
    for number, user in enumerate(gpus.users(uuids)):
        if user:
            raise InputError(f"GPU {number} is used by {user}; wait for it, or hide that GPU by CUDA_VISIBLE_DEVICES")
    if uuids:
        gpus.take(uuids, lambda free: free)


def examine(machine: Machine, names: list[Name]) -> Facts:
    """Run the checks, facts first, and print a line or more for each as it ends. Returns the report."""
    checks = []
    broken = False
    for number, name in enumerate(names, 1):
        with working(f"{number} of {len(names)}, {name}") as say:
            without = Outcome(Status.LEFT_OUT, "facts failed, which all others need"), 0.0
            outcome, seconds = without if broken else run(name, machine, say)
        typer.echo(lines(name, outcome, seconds))
        checks.append({"name": name, "seconds": round(seconds, 1), **asdict(outcome)})
        if name == Name.FACTS:
            broken = outcome.status == Status.FAILED
            machine = machine if broken else with_processes(machine, outcome.found)
    return {
        "device": machine.device,
        "processes": machine.processes,
        "machines": machine.machines,
        "code": code_digest(),
        "passed": not any(check["status"] == Status.FAILED for check in checks),
        "checks": checks,
    }


def lines(name: Name, outcome: Outcome, seconds: float) -> str:
    """Return what is printed of a check: a line, which a terminal's width breaks, and what to do below it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    texts = [f"{outcome.status:8}  {name:9}  {seconds:5.1f} s  {outcome.text}"]
    texts += [f"{'':10}to do: {outcome.remedy}"] if outcome.remedy else []
    return "\n".join(
        textwrap.fill(printable(text), width, subsequent_indent=" " * 10, break_on_hyphens=False) for text in texts
    )


@contextmanager
def working(what: str) -> Iterator[Say]:
    """Show on a terminal, until the block ends, what is done at the moment. Yields a function that shows more of it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing: None
        return
    with console.status(what) as status:
        yield within(what, status.update)
