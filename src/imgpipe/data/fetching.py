"""Download one file from an address. What has come is kept and gone on from, also after the process was killed.

The folder of partial downloads has two files for each, named by a hash of the address: the bytes, and a note of what
they are of.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from imgpipe.common.errors import InputError, without_secrets
from imgpipe.common.files import sha256_of, write_text
from imgpipe.common.wording import counted
from imgpipe.data.asking import NOTHING, Answer, BrokenOffError, Kept, ask
from imgpipe.data.asking import AddressError as AddressError  # which fetch raises

UNSAID_SHARE = 2
"""Part of the free disk, as a divisor, that a file may take whose server does not say how long it is."""


@dataclass(frozen=True)
class Patience:
    """How long an address is asked that does not answer, or not to the end."""

    tries: int
    """Times that it is asked, 1 at least."""
    timeout: float
    """Seconds to wait for a connection, for the head of the answer, and for each next part of the file.

    fsspec's protocols have their own.
    """
    pause: float
    """Seconds before the second try, doubled before each further one."""


PATIENCE = Patience(tries=6, timeout=30, pause=1)


class HashError(InputError):
    """Says that a hash is not that of the file: "'...', but ...", to stand after the parameter's name and "is"."""


def fetch(url: str, path: Path, *, partial: Path, sha256: str | None, patience: Patience = PATIENCE) -> None:
    """Bring the file at an address to ``path``, whole and with the expected SHA-256, or not at all.

    url: of http or https, or of any protocol that fsspec knows and a package is installed for, such as s3://.
    partial: folder on the same disk as path, where what has come is kept until it is whole and verified.
    sha256: of the file, or its first digits. Where it is None, the file is fetched and kept, and the error says what
        it would be.

    Raises AddressError where the server refuses or fails, HashError where the hash is another, and InputError where
    the disk can't be written, or another process fetches the same.
    """
    part = partial / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part):
            _bring(url, part, path.name, sha256, patience)
            part.replace(path)
            _discard(part)
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error}; what came is kept in {partial}: put that right and run again"
        ) from None


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Keep other processes from a partial file for the length of the block. Raises InputError where one has it."""
    path = part.with_suffix(".lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(lock.fileno()), path.stat())  # not one that was let go of just now
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise InputError(f"another process downloads to {part}; wait for it and run again")
        try:
            yield
        finally:
            path.unlink()


def _bring(url: str, part: Path, name: str, sha256: str | None, patience: Patience) -> None:
    """Bring the whole file to ``part`` and verify it."""
    kept = _kept(part)
    doubtful = kept.size == kept.total or _download(url, part, name, patience)
    got = sha256_of(part)
    if sha256 is None:
        raise HashError(
            "null, which a URL needs; "
            f"what came has sha256: {got} ({part.stat().st_size} bytes); paste it if you trust it"
        )
    wanted = sha256.lower()
    if not got.startswith(wanted) and doubtful:  # perhaps of two versions of the file, or the one kept is outdated
        _discard(part)
        _download(url, part, name, patience)
        got = sha256_of(part)
    if not got.startswith(wanted):
        _discard(part)
        raise HashError(
            f"'{sha256}', but {without_secrets(url)} has {got}; check the address, or paste that if you trust it"
        )


def _download(url: str, part: Path, name: str, patience: Patience) -> bool:
    """Bring the whole file to ``part``.

    Return whether that is doubtful: pieced together from more than one answer, or of a length that none said.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tried = 0
    with Progress(*columns) as progress:
        progress.add_task(name, total=None)
        while True:
            try:
                return _receive(url, part, patience.timeout, progress)
            except BrokenOffError as reason:
                tried += 1
                if tried == patience.tries:
                    raise AddressError(
                        url,
                        f"and the last of {patience.tries} tries failed: {reason}; "
                        f"the {_kept(part).size} bytes that came are kept, and the next run goes on from them",
                    ) from None
                wait = patience.pause * 2 ** (tried - 1) if reason.wait is None else reason.wait
                logging.info("%s: %s; try %d of %d in %g s", name, reason, tried + 1, patience.tries, wait)
            time.sleep(wait)


def _receive(url: str, part: Path, timeout: float, progress: Progress) -> bool:
    """Ask once. Return whether the answer went on from what was kept, or did not say how long the file is."""
    (bar,) = progress.task_ids
    with ask(url, _kept(part), timeout) as answer:
        most = _most_bytes(url, part, answer)
        progress.reset(bar, completed=answer.start, total=answer.total)
        with part.open("ab" if answer.start else "wb") as file:
            if not answer.start:  # only now, when the file is empty: a note must never be of other bytes
                _write_note(part, url, answer.total, answer.version)
            for block in answer.blocks:
                if file.tell() + len(block) > most:
                    raise AddressError(url, f"which sends more than {most} bytes without an end; check the address")
                file.write(block)
                progress.advance(bar, len(block))
    size = part.stat().st_size
    if answer.total is not None and answer.total != size:
        raise BrokenOffError(f"{size:,} of {counted(answer.total, 'byte')} came")
    _write_note(part, url, size, answer.version)
    return answer.start > 0 or answer.total is None


def _most_bytes(url: str, part: Path, answer: Answer) -> int:
    """Return the bytes that a file may have: those it says to have or, where it does not, what the disk may spare."""
    free = shutil.disk_usage(part.parent).free
    if answer.total is None:
        return answer.start + free // UNSAID_SHARE
    if answer.total - answer.start > free:
        raise AddressError(url, f"whose {answer.total:,} bytes do not fit on the disk: {free:,} are free; make room")
    return answer.total


def _kept(part: Path) -> Kept:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        size = part.stat().st_size
    except (FileNotFoundError, ValueError, RecursionError):  # no JSON, as a crash of the machine may leave it
        return NOTHING
    match note:
        case {"total": int() | None as total, "version": dict() as version}:
            if (total is None or 0 <= total < 10**18) and all(isinstance(mark, str) for mark in version.values()):
                return Kept(size, total, version)
    return NOTHING


def _write_note(part: Path, url: str, total: int | None, version: dict[str, str]) -> None:
    write_text(_note(part), json.dumps({"url": without_secrets(url), "total": total, "version": version}) + "\n")


def _note(part: Path) -> Path:
    return part.with_suffix(".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
