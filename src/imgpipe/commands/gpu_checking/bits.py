"""Part: train to the end, and from where other processes stopped: all must end in the same bits."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from signal import SIGTERM

import torch

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.commands.gpu_checking.training import (
    Values,
    difference,
    differences_from_first,
    digest_of,
    trained,
    values_of,
)
from imgpipe.model.devices import World, of_first_process
from imgpipe.train.processes import Interrupted

STOPPED_AFTER = 2
"""Steps. A GPU is some steps ahead by then."""


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Train in each way: whole; from the checkpoint that processes before these left; and stop for those after these.

    settings: scales, by the name of the way; reference, a folder of what the first such part ended with, which is made
        where it is not there; resumed, the folder of what was left, or none; left, the folder of what is to be left.

    Returns by the name of the way: whole and resumed, the digests at the ends; resumed is null where there is no
    checkpoint on the first machine. differing: what is unlike the reference.
    """
    facts = {}
    for name, scale in settings["scales"].items():
        say(name)
        facts[name] = _compared(Scale(**scale), name, world, settings)
    return facts


def _compared(scale: Scale, name: str, world: World, settings: Facts) -> Facts:
    reference, left = (Path(settings[folder]) for folder in ("reference", "left"))
    whole = values_of(trained(scale, world, left / name / "whole"))
    differing = [
        f"process {rank} from process 0, {said}" for rank, said in differences_from_first(whole, world).items()
    ]
    differing += _unlike(whole, reference / f"{name}.pt", "")
    resumed = None
    if settings["resumed"] and of_first_process(any(Path(settings["resumed"], name).glob("*.pt")), world):
        resumed = values_of(trained(scale, world, Path(settings["resumed"], name)))
        differing += _unlike(resumed, reference / f"{name}.pt", "resumed, ")
    if settings["leave"]:
        _stop(scale, world, left / name)
    return {"whole": digest_of(whole), "resumed": resumed and digest_of(resumed), "differing": differing}


def _unlike(values: Values, reference: Path, how: str) -> list[str]:
    """Compare with the reference of this machine, by its first process; where there is none these values become it."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return []
    if not reference.exists():
        reference.parent.mkdir(parents=True, exist_ok=True)
        torch.save(values, reference)
    differing = difference(values, torch.load(reference, weights_only=True))
    return [f"{how}{differing}"] if differing else []


def _stop(scale: Scale, world: World, folder: Path) -> None:
    """Train until the last process is asked to stop, and the first has saved."""
    asked = _asked_after(STOPPED_AFTER) if world.rank == world.size - 1 else lambda: 0
    try:
        trained(scale, world, folder, stop_signal=asked)
    except Interrupted:
        return
    raise AssertionError("a training that was asked to stop went on to its end")


def _asked_after(calls: int) -> Callable[[], int]:
    numbers = count()
    return lambda: SIGTERM if next(numbers) >= calls else 0
