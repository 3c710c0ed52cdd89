"""Save a training's checkpoints, and resume it from the newest.

All that a training's result depends on makes its key (``keys``). The key names the folder of its checkpoints, so a
training resumes from its own checkpoints or from none. One run at a time uses the folder (``locks``). In it are the two
newest checkpoints, each whole or recognised as cut short.
"""

import copy
import hashlib
import io
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from signal import Signals
from time import monotonic
from typing import Any

import torch
import torch.distributed as dist

from imgpipe.common.errors import InputError, one_line
from imgpipe.common.files import replacing
from imgpipe.model.devices import World, of_first_process
from imgpipe.model.runtime import first_of_machine
from imgpipe.train.locks import set_aside, sole_use
from imgpipe.train.processes import Interrupted
from imgpipe.train.state import TrainingState

KEPT = 2
"""Checkpoints in a folder: the newest, and one before it in case the newest was cut short."""

FIRST = 60.0
"""Seconds after which a run saves its first checkpoint at the latest: early failures are the most frequent ones."""

WHILE_DATA_IS_READ = timedelta(days=1)
"""How long processes wait for one that reads all of the data: terabytes from a slow disk take hours."""

Save = Callable[[int], None]
"""Saves a checkpoint if one is due, or if the argument, the signal that stops the training, is not 0."""


def same_everywhere(digests: Mapping[str, str], world: World) -> dict[str, str]:
    """Check that all processes have the same inputs as the first. Every process of the world calls it.

    digests: of what the result depends on, by its name for the user, such as a path. All but the first of a machine may
        leave out what they share with it: to read all of the data once is enough.

    Returns all digests.

    Raises InputError, the same in every process, that names what differs and on which machines.
    """
    if world.size == 1:
        return dict(digests)
    everybody: list[tuple[str, bool, dict[str, str]]] = [("", True, {})] * world.size
    mine = socket.gethostname(), first_of_machine(), dict(digests)
    patient = dist.new_group(backend="gloo", timeout=WHILE_DATA_IS_READ)
    dist.all_gather_object(everybody, mine, group=patient)  # type: ignore[arg-type]  # every process is in it
    first_host, _, expected = everybody[0]
    differing: dict[tuple[str, ...], list[str]] = {}
    for process, (host, whole, found) in enumerate(everybody):
        names = {name for name, digest in found.items() if digest != expected.get(name)}
        if whole:
            names |= expected.keys() - found.keys()
        if names:
            differing.setdefault(tuple(sorted(names)), []).append(f"{host} (process {process})")
    if not differing:
        return expected
    said = "; ".join(f"{', '.join(names)} on {', '.join(hosts)}" for names, hosts in differing.items())
    remedies = ["train on GPUs of one model"] if any("device" in names for names in differing) else []
    if any(set(names) - {"device"} for names in differing):
        remedies.append("bring the project's folder to one state on all of them, for example by git pull and dvc pull")
    raise InputError(
        f"the machines do not train the same: {said}: not as on {first_host} (process 0); {', and '.join(remedies)}"
    )


@contextmanager
def resumed(
    state: TrainingState,
    folder: Path,
    world: World,
    *,
    every_seconds: float,
    every_steps: int | None,
    stop_signal: Callable[[], int],
) -> Iterator[Save]:
    """Bring the state to the newest checkpoint in the folder, if there is one, and save more within the block.

    folder: of this very training, named by its key. The first process reads and writes it, and tells the others. It is
    removed when the block ends well.
    every_seconds, every_steps: how much of the training there may be between two checkpoints.
    stop_signal: the signal that asks this process to stop, or 0.

    Yields the function to be called after each step and each epoch. Where a checkpoint can't be saved, say on a full
    disk, it warns, and the training goes on.

    Raises, in every process, InputError where another run uses the folder; Interrupted when the first process was asked
    to stop while it waited for that run.
    """
    with ExitStack() as stack:
        refusal, number = None, 0
        if world.rank == 0:
            try:
                stack.enter_context(sole_use(folder, stop_signal))
            except InputError as error:
                refusal = str(error)
            except Interrupted:
                number = stop_signal()
        refusal, number = of_first_process((refusal, number), world)
        if number:
            raise Interrupted(number)
        if refusal is not None:
            raise InputError(refusal)
        _restore(state, folder, world)
        yield _saving(state, folder if world.rank == 0 else None, every_seconds=every_seconds, every_steps=every_steps)
        if world.rank == 0:
            shutil.rmtree(folder)


def _restore(state: TrainingState, folder: Path, world: World) -> None:
    """Bring the state to the newest checkpoint that is one of it, if there is any."""
    while True:
        saved = of_first_process(newest_checkpoint(folder) if world.rank == 0 else None, world)
        if saved is None:
            return
        before = copy.deepcopy(state.saved())
        try:
            state.restore(saved)
        except Exception as error:  # what is in it decides what fails
            state.restore(before)
            if world.rank == 0:
                set_aside(_newest_first(folder)[0], one_line(error, named=True))
        else:
            return


def _saving(state: TrainingState, folder: Path | None, *, every_seconds: float, every_steps: int | None) -> Save:
    """Make the function that saves the state. folder: None for a process that does not write."""
    due_at, steps = monotonic() + min(FIRST, every_seconds), 0

    def save(stopped_by: int) -> None:
        nonlocal due_at, steps
        after_step = state.step > 0  # 0 after an epoch, whose last step was counted
        steps += after_step
        enough_steps = after_step and every_steps and steps % every_steps == 0
        if folder is None or not (stopped_by or enough_steps or monotonic() >= due_at):
            return
        then = "the training goes on without"
        if stopped_by:
            logging.info("%s stops the training %s", Signals(stopped_by).name, state.place)
            then = "the next run goes on from the one before, or begins anew"
        try:
            write_checkpoint(folder, f"{len(state.history):06}-{state.step:09}", state.saved())
        except OSError as error:
            logging.warning("no checkpoint could be saved (%s); %s", error, then)
        else:
            if stopped_by:
                logging.info("it is saved, and the next run resumes it")
        due_at = monotonic() + every_seconds

    return save


def write_checkpoint(folder: Path, name: str, saved: Mapping[str, Any]) -> None:
    """Add a checkpoint, and remove all but the newest. Raises OSError where the disk is full.

    name: later in the alphabet than those before it.
    saved: tensors, numbers and texts in dicts and lists.
    """
    content = io.BytesIO()
    torch.save(saved, content)
    with replacing(folder / f"{name}.pt") as draft, draft.open("wb") as file:
        file.write(hashlib.blake2b(content.getbuffer()).digest())
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())  # the name must not reach the disk before the content
    for older in _newest_first(folder)[KEPT:]:
        older.unlink()


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return what the newest whole checkpoint holds, on the CPU; None where there is none.

    One that was cut short is named in a warning and removed, and what is none of ours is set aside.
    """
    for draft in filter(Path.is_file, folder.glob(".*.draft")):  # of a run that was killed
        draft.unlink()
    for path in _newest_first(folder):
        try:
            return _content(path)
        except _CutShortError:
            logging.warning("%s was cut short; the checkpoint before it is used, if there is one", path.name)
            path.unlink()
        except Exception as error:  # of a file that is none of ours, torch's reader may raise anything
            set_aside(path, one_line(error))
    return None


class _CutShortError(Exception):
    """The checkpoint is not as it was written."""


def _content(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors, numbers and texts are unpickled."""
    content = path.read_bytes()
    digest, rest = content[:64], content[64:]
    if hashlib.blake2b(rest).digest() != digest:
        raise _CutShortError
    saved: dict[str, Any] = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    return saved


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"), reverse=True)
