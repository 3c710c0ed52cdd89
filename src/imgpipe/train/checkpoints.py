"""Checkpoints of one training, in a folder of their own: the two newest, each whole or recognised as cut short."""

import fcntl
import hashlib
import io
import json
import logging
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch.distributed as dist

from imgpipe.common import params
from imgpipe.common.errors import InputError
from imgpipe.common.files import digest_of, digest_of_text, replacing
from imgpipe.model.devices import World, of_first_process
from imgpipe.train.processes import Interrupted
from imgpipe.train.state import TrainingState

KEPT = 2
PATIENCE = 60.0
"""Seconds that a run waits for another of the same training: one that was told to stop needs a moment to save."""


def write_checkpoint(folder: Path, name: str, state: Mapping[str, Any]) -> None:
    """Adds one, and removes all but the newest. Raises OSError where the disk is full.

    name: later in the alphabet than those before it. state: tensors, numbers and texts in dicts and lists.
    """
    content = io.BytesIO()
    torch.save(state, content)
    with replacing(folder / f"{name}.pt") as draft, draft.open("wb") as file:
        file.write(hashlib.blake2b(content.getbuffer()).digest())
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())  # the name must not reach the disk before the content
    for older in _newest_first(folder)[KEPT:]:
        older.unlink()


def newest_checkpoint(folder: Path) -> bytes | None:
    """The content of the newest one that is whole, for ``state_in``; one that is not is named and removed."""
    for draft in folder.glob(".*.draft"):  # of a run that was killed
        draft.unlink()
    for path in _newest_first(folder):
        content = path.read_bytes()
        digest, rest = content[:64], content[64:]
        if hashlib.blake2b(rest).digest() == digest:
            return rest
        logging.warning("%s was cut short; the checkpoint before it is used, if there is one", path.name)
        path.unlink()
    return None


def state_in(content: bytes) -> dict[str, Any]:
    """What ``write_checkpoint`` was given, on the CPU."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"), reverse=True)


def remove_checkpoints(folder: Path) -> None:
    shutil.rmtree(folder)


@contextmanager
def sole_use(folder: Path, stop_signal: Callable[[], int]) -> Iterator[None]:
    """Makes the folder, and keeps every other run out of it, also one on another machine that shares the disk.

    The lock ends with the process that holds it, however that ends.
    stop_signal: the signal that asks this process to stop, or 0.

    Raises InputError where another run holds it for too long; Interrupted when it was asked to stop while it waited.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".lock")
    patient_until = time.monotonic() + PATIENCE
    said = False
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read() or "another process"
                if not said:
                    logging.info("waiting for %s, which is at this very training", holder)
                    said = True
                if number := stop_signal():
                    raise Interrupted(number) from None
                if time.monotonic() > patient_until:
                    raise InputError(
                        f"{holder} is at this very training (the same parameters, data and code); wait for it or end it"
                    ) from None
                time.sleep(0.2)
                continue
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                continue  # whoever held it has removed it since
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            folder.mkdir(exist_ok=True)
            try:
                yield
            finally:
                path.unlink()
            return


@contextmanager
def resumed(
    state: TrainingState,
    folder: Path,
    world: World,
    *,
    every_seconds: float,
    every_steps: int | None,
    stop_signal: Callable[[], int],
) -> Iterator[Callable[[bool], None]]:
    """Brings the state to the newest checkpoint in the folder, if there is one, and gives a function that saves it.

    folder: of this very training, which one run at a time uses; it is removed when the block ends well. The first
    process reads and writes it, and tells the others. stop_signal: the signal that asks this process to stop, or 0.

    The function is to be called after each step and each epoch. It saves when so many seconds or steps have passed, or
    when it is told that it must. Where that fails, say on a full disk, it warns, and the training goes on.

    Raises, in every process, InputError where another run uses the folder; Interrupted when the first process was asked
    to stop while it waited for that run.
    """
    with ExitStack() as stack:
        content, refusal, number = None, None, 0
        if world.rank == 0:
            try:
                stack.enter_context(sole_use(folder, stop_signal))
                content = newest_checkpoint(folder)
            except InputError as error:
                refusal = str(error)
            except Interrupted:
                number = stop_signal()
        content, refusal, number = of_first_process((content, refusal, number), world)
        if number:
            raise Interrupted(number)
        if refusal is not None:
            raise InputError(refusal)
        if content is not None:
            state.restore(state_in(content))
            logging.info("going on from epoch %d, step %d", len(state.history) + 1, state.step + 1)

        saved_at, steps = monotonic(), 0

        def save(must: bool) -> None:
            nonlocal saved_at, steps
            after_step = state.step > 0  # 0 after an epoch, whose last step was counted
            steps += after_step
            enough_steps = after_step and every_steps and steps % every_steps == 0
            due = monotonic() - saved_at >= every_seconds or enough_steps
            if world.rank == 0 and (must or due):
                try:
                    write_checkpoint(folder, f"{len(state.history):06}-{state.step:09}", state.saved())
                except OSError as error:
                    logging.warning("no checkpoint could be saved (%s); the training goes on without", error)
                saved_at = monotonic()

        yield save
        if world.rank == 0:
            remove_checkpoints(folder)


PACKAGES = ("numpy", "opencv-python-headless", "pillow", "torch", "torchvision")
"""Those whose versions show in the bits of a training."""


def digests_of_inputs(stage: str) -> dict[str, str]:
    """A digest of the stage's parameters, of each file and folder that it depends on, and of the packages' versions."""
    described = params.load(Path("dvc.yaml"))["stages"][stage]
    sections = params.load(params.PARAMS)
    parameters = json.dumps({name: sections[name] for name in described["params"]})
    parameters = json.dumps(json.loads(parameters), sort_keys=True)  # keys are texts there, which can be sorted
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
    return {
        "parameters": digest_of_text(parameters),
        "packages": digest_of_text(json.dumps(versions)),
        **{path: digest_of(Path(path)) for path in described["deps"]},
    }


def key_of(digests: dict[str, str]) -> str:
    """One short name for all of them."""
    return digest_of_text(json.dumps(digests))[:32]


def same_everywhere(digests: Mapping[str, str], world: World) -> None:
    """Compares what each process has with what process 0 has. Every process of the world calls it.

    digests: what the result depends on: its name for the user, such as a path, and a digest of its content.

    Raises InputError, the same on every process, that names what differs and on which machines.
    """
    if world.size == 1:
        return
    everybody: list[tuple[str, dict[str, str]]] = [("", {})] * world.size
    dist.all_gather_object(everybody, (socket.gethostname(), dict(digests)))
    first_host, expected = everybody[0]
    differing: dict[tuple[str, ...], list[str]] = {}
    for process, (host, found) in enumerate(everybody):
        names = {name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)}
        if names:
            differing.setdefault(tuple(sorted(names)), []).append(f"{host} (process {process})")
    if differing:
        said = "; ".join(f"{', '.join(names)} on {', '.join(hosts)}" for names, hosts in differing.items())
        raise InputError(
            f"the machines do not train the same: {said}: not as on {first_host} (process 0); bring the project's "
            "folder to one state on all of them, for example by git pull and dvc pull"
        )
