"""Checkpoints of one training, in a folder of their own: the two newest, each whole or recognised as cut short."""

import fcntl
import hashlib
import io
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from imgpipe.common.errors import InputError
from imgpipe.common.files import replacing
from imgpipe.train.interruption import Interrupted

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
