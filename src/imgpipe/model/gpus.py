"""The GPUs of this machine, which the runs on it share out among themselves: each is one run's. No torch is imported.

A GPU has a file named by its UUID, whose lock (``flock``) the process that uses the GPU holds. Linux gives it free when
that process ends, however it does. ``python -m imgpipe.model.gpus`` prints the UUIDs of the GPUs.
"""

import ctypes
import fcntl
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from uuid import UUID

from imgpipe.common.errors import InputError
from imgpipe.model.runtime import started_by_torchrun

LOCKS = Path("/tmp")
"""Where the files are: the one folder on every Linux that all users of a machine may write to. TMPDIR and
XDG_RUNTIME_DIR are a user's or a job's own, /run/lock is often root's, and a home may be on several machines. What
cleans /tmp leaves a locked file there (systemd-tmpfiles)."""

HOLDER = "IMGPIPE_GPU_HOLDER"
"""Environment variable by which a process that starts itself anew tells itself that it has its GPUs already."""

EVERY = 0.5
"""Seconds between two looks whether a GPU is free."""


@dataclass(frozen=True)
class Share:
    """Which GPUs a process has taken."""

    numbers: list[int]
    """Their numbers among those that CUDA shows, from 0; none where there were too few."""
    users: dict[int, str]
    """Who has those that other runs use, by their numbers."""
    shown: int
    """How many GPUs CUDA shows."""


def visible() -> list[str]:
    """Ask NVIDIA's driver for the UUID of each GPU that CUDA shows here, in CUDA's order: torch's cuda:0, cuda:1, ...

    A process of its own asks. A driver that has started in a process keeps to the CUDA_VISIBLE_DEVICES that it found.

    Returns none where there is no driver: torch's GPUs are AMD's (ROCm), which are not shared out.

    Raises InputError where the driver does not answer.
    """
    asked = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise InputError(f"NVIDIA's driver can't list the GPUs: {asked.stderr.strip().splitlines()[-1]}")
    return asked.stdout.split()


def _uuids_of_driver() -> Iterator[str]:
    """Yield what ``visible`` returns. This starts the driver, and takes no memory on any GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    count, device, uuid = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()

    def call(function: str, *arguments: object) -> None:
        if status := getattr(driver, function)(*arguments):
            raise OSError(f"{function} returned {status}")

    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    for number in range(count.value):
        call("cuDeviceGet", ctypes.byref(device), number)
        call("cuDeviceGetUuid_v2", ctypes.byref(uuid), device)  # of a MIG instance its own
        yield str(UUID(bytes=bytes(uuid)))


def take(uuids: Sequence[str], wanted: Callable[[int], int]) -> Share:
    """Take as many GPUs as are wanted of those that no other run has, or wait until so many are free.

    They are this process's until it ends, also through an exec. Where it has not taken all, CUDA_VISIBLE_DEVICES shows
    only those that it has from now on: to a driver that has not started yet, so ``start_anew`` or another exec has to
    follow.

    uuids: of all that there are, which ``visible`` returns.
    wanted: returns how many to take of so many free ones; 0 where these are too few.
    """
    assert uuids, "nobody would ever give one free"
    said = False
    while not (share := _take_now(uuids, wanted)).numbers:
        if not said:
            numbers: dict[str, list[str]] = {}
            for number, user in share.users.items():
                numbers.setdefault(user, []).append(str(number))
            used = (f"{user} has {', '.join(its)}" for user, its in numbers.items())
            logging.info("waiting for GPUs that other runs use: %s", "; ".join(used))
            said = True
        sleep(EVERY)
    if len(share.numbers) < len(uuids):
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = shown.split(",") if shown is not None else [str(number) for number in range(len(uuids))]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[number] for number in share.numbers)
    return share


def take_one(device: str) -> None:
    """Take a GPU for this program, which may start anew for that; or its own where torchrun has started it.

    device: ``cuda``; for ``cpu`` nothing is done.

    Raises InputError as ``take_own`` does.
    """
    if device == "cpu" or is_holder():
        return
    if started_by_torchrun():
        take_own()
    elif (uuids := visible()) and take(uuids, lambda free: min(free, 1)).shown > 1:
        start_anew()


def take_own() -> None:
    """Take the GPU of this process among those that torchrun started from outside.

    Raises InputError where another run has it: it can't be another one, and the other processes would wait in vain.
    """
    number = int(os.environ["LOCAL_RANK"])
    for user in _take_now(visible()[number : number + 1], lambda free: free).users.values():
        raise InputError(
            f"GPU {number} is used by {user}; wait for it, or have torchrun take others: CUDA_VISIBLE_DEVICES"
        )


def users(uuids: Sequence[str]) -> list[str | None]:
    """Return who uses each of these GPUs; None where no run does."""
    share = _take_now(uuids, lambda free: 0)
    return [share.users.get(number) for number in range(len(uuids))]


def start_anew() -> None:
    """Start this program anew in this very process, which keeps the GPUs that it has taken. Does not return."""
    os.environ[HOLDER] = str(os.getpid())  # the same after exec, and no child's
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def is_holder() -> bool:
    """Return whether this process was started anew and has its GPUs already."""
    return os.environ.get(HOLDER) == str(os.getpid())


def _take_now(uuids: Sequence[str], wanted: Callable[[int], int]) -> Share:
    """Take GPUs as ``take`` does, all at once, or none."""
    with _sole_taker():
        files = [_opened(f"imgpipe-GPU-{uuid}.lock") for uuid in uuids]
        free = [number for number, file in enumerate(files) if _locked(file)]
        users = {number: _text_of(file) for number, file in enumerate(files) if number not in free}
        taken = free[: wanted(len(free))]
        for number, file in enumerate(files):
            if number not in taken:
                os.close(file)
                continue
            os.truncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            os.set_inheritable(file, True)  # through exec; subprocess closes it in children
    return Share(taken, users, len(uuids))


@contextmanager
def _sole_taker() -> Iterator[None]:
    """Let no other run take GPUs in the block: two that each want two of four get them one after the other."""
    file = _opened("imgpipe-GPUs.lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _opened(name: str) -> int:
    """Open a file of LOCKS, which any user may, and make it where it is not there.

    Linux refuses to open another's file there with O_CREAT (protected_regular), and a link could lead anywhere.
    """
    path = LOCKS / name
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        with suppress(FileExistsError):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.fchmod(file, 0o666)  # whatever the umask is
            return file


def _locked(file: int) -> bool:
    """Lock a file, unless another process has. Returns whether it did."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _text_of(file: int) -> str:
    return os.pread(file, 200, 0).decode(errors="replace") or "another process"


if __name__ == "__main__":
    try:
        sys.stdout.writelines(f"{uuid}\n" for uuid in _uuids_of_driver())
    except (OSError, AttributeError) as error:  # a driver that does not work, or one older than CUDA 11.4
        sys.exit(str(error))
