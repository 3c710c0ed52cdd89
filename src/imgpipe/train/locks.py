"""The folder of a training's checkpoints, which one run at a time uses. Importing this takes no torch.

Beside a folder is its lock, ``<key>.lock``; what was found in a checkpoint's place and is none is ``*.not-ours``.
"""

import fcntl
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from imgpipe.common.errors import InputError
from imgpipe.train.processes import Interrupted

CHECKPOINTS = Path(os.environ.get("DVC_ROOT", "."), ".dvc", "tmp", "imgpipe")
"""Outside of the workspace, so that queued and temporary experiments find them too: DVC_ROOT is the project's."""

PATIENCE = 60.0
"""Seconds that a run waits for another of the same training: one that was told to stop needs a moment to save."""


@contextmanager
def sole_use(folder: Path, stop_signal: Callable[[], int]) -> Iterator[None]:
    """Make the folder, and keep every other run out of it, also one on another machine that shares the disk.

    The lock ends with the process that holds it, however that ends.

    stop_signal: the signal that asks this process to stop, or 0.

    Raises InputError where another run holds it for too long; Interrupted when it was asked to stop while it waited.
    """
    lock = folder.with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    patient_until = monotonic() + PATIENCE
    said = False
    while True:
        with taken(lock) as holder:
            if holder is None:
                if folder.exists() and not folder.is_dir():
                    set_aside(folder, "it is no folder")
                folder.mkdir(exist_ok=True)
                yield
                return
        if not said:
            logging.info("waiting for %s, which is at this very training", holder)
            said = True
        if number := stop_signal():
            raise Interrupted(number)
        if monotonic() > patient_until:
            raise InputError(
                f"{holder} is at this very training (the same parameters, data and code); wait for it or end it"
            )
        sleep(0.2)


@contextmanager
def taken(lock: Path) -> Iterator[str | None]:
    """Take the lock for the length of the block, unless another process has it.

    Yields None where it was taken; otherwise who has it.
    """
    while True:
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                yield file.read() or "another process"
                return
            if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                continue  # whoever held it has removed it since
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield None
            finally:
                lock.unlink()
            return


def set_aside(path: Path, reason: str) -> None:
    """Give a checkpoint that can't be taken up another name, and say so in a warning."""
    aside = path.with_name(f"{path.name}.not-ours")
    if aside.is_dir():
        shutil.rmtree(aside)
    path.replace(aside)
    logging.warning("%s is no checkpoint of this training (%.200s); it is now %s", path.name, reason, aside.name)
