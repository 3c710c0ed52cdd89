"""Download one file from an address. What has come is kept and gone on from, also after the process was killed.

The folder of partial downloads has two files for each, named by a hash of the address: the bytes, and a note of what
they are of.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from imgpipe.common.errors import InputError, one_line
from imgpipe.common.files import sha256_of, write_text

BLOCK = 1 << 16
"""Bytes that are read at a time."""
LONGEST_WAIT = 60
"""Seconds, the longest pause that a server may ask for."""


@dataclass(frozen=True)
class Patience:
    """How long an address is asked that does not answer, or not to the end."""

    tries: int
    """Times that it is asked, 1 at least."""
    timeout: float
    """Seconds to wait for a connection and for each next part of the file; fsspec's protocols have their own."""
    pause: float
    """Seconds before the second try, doubled before each further one."""


PATIENCE = Patience(tries=6, timeout=30, pause=1)


class AddressError(InputError):
    """Says why an address gives no file: "'http://...', and ...", to stand after the parameter's name and "is"."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"'{url}', {reason}")


class HashError(InputError):
    """Says that a hash is not that of the file: "'...', but ...", to stand after the parameter's name and "is"."""


def fetch(url: str, path: Path, *, partial: Path, sha256: str | None, patience: Patience = PATIENCE) -> None:
    """Bring the file at an address to ``path``, whole and with the expected SHA-256, or not at all.

    url: of http or https, or of any protocol that fsspec knows and a package is installed for, such as s3://.
    partial: folder on the same disk as path, where what has come is kept until it is whole and verified.
    sha256: of the file, or its first digits. Where it is None, the file is fetched and kept, and the error says what
        it would be.

    Raises AddressError where the server refuses or fails, HashError where the hash is another, and InputError where
    the disk can't be written.
    """
    part = partial / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _kept(part)
        pieced = kept.size == kept.total or _download(url, part, path.name, patience)
        got = sha256_of(part)
        if sha256 is None:
            raise HashError(
                "null, which a URL needs; "
                f"what came has sha256: {got} ({part.stat().st_size} bytes); paste it if you trust it"
            )
        wanted = sha256.lower()
        if not got.startswith(wanted) and pieced:  # perhaps of two versions of the file, or the one kept is outdated
            _discard(part)
            _download(url, part, path.name, patience)
            got = sha256_of(part)
        if not got.startswith(wanted):
            _discard(part)
            raise HashError(f"'{sha256}', but {url} has {got}; check the address, or paste that if you trust it")
        part.replace(path)
        _discard(part)
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error}; what came is kept in {partial}: put that right and run again"
        ) from None


@dataclass(frozen=True)
class _Kept:
    """What came before: so many bytes of ``total``, if that is known, and the server's marks of the file's version."""

    size: int
    total: int | None
    version: dict[str, str]


NOTHING = _Kept(0, None, {})


@dataclass(frozen=True)
class _Answer:
    """The file's bytes from ``start`` on; ``total`` and ``version`` as in _Kept."""

    start: int
    total: int | None
    version: dict[str, str]
    blocks: Iterator[bytes]


class _BrokenOffError(Exception):
    """Says why a download broke off, which may pass. wait: seconds of pause, where the server asks for one."""

    def __init__(self, reason: str, wait: int | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def _download(url: str, part: Path, name: str, patience: Patience) -> bool:
    """Bring the whole file to ``part``. Return whether it was pieced together from more than one answer."""
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
            except _BrokenOffError as reason:
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
    """Ask once. Return whether the answer went on from what was kept; if not, it was the whole file."""
    (bar,) = progress.task_ids
    ask = _ask_by_requests if url.lower().startswith(("http://", "https://")) else _ask_by_fsspec
    with ask(url, _kept(part), timeout) as answer:
        progress.reset(bar, completed=answer.start, total=answer.total)
        with part.open("ab" if answer.start else "wb") as file:
            if not answer.start:  # only now, when the file is empty: a note must never be of other bytes
                _write_note(part, url, answer.total, answer.version)
            for block in answer.blocks:
                file.write(block)
                progress.advance(bar, len(block))
    size = part.stat().st_size
    if answer.total not in (None, size):
        raise _BrokenOffError(f"{size} of {answer.total} bytes came")
    _write_note(part, url, size, answer.version)
    return answer.start > 0


@contextmanager
def _ask_by_requests(url: str, kept: _Kept, timeout: float) -> Iterator[_Answer]:
    """Ask for the rest of the file, and for all of it where the server does not give the rest of what is kept."""
    response = _response(url, kept, timeout)
    if kept.size and (response.status_code == 416 or (response.status_code == 206 and not _continues(response, kept))):
        response.close()
        kept = NOTHING
        response = _response(url, kept, timeout)
    with response:
        if response.status_code == 206 and _continues(response, kept):
            start, total = kept.size, _range(response)[1] or kept.total
        elif response.status_code == 200:
            length = response.headers.get("Content-Length", "")
            start, total = 0, int(length) if length.isdecimal() else None
        else:
            raise _refusal(url, response)
        marks = {mark: response.headers[mark] for mark in ("ETag", "Last-Modified") if mark in response.headers}
        yield _Answer(start, total, marks, _blocks_by_requests(response))


def _response(url: str, kept: _Kept, timeout: float) -> requests.Response:
    headers = {"Accept-Encoding": "identity"}  # the file as it is stored, not packed for the way
    if kept.size:
        headers["Range"] = f"bytes={kept.size}-"
        tag = kept.version.get("ETag", "W/")
        condition = kept.version.get("Last-Modified") if tag.startswith("W/") else tag  # weak ones are not allowed
        if condition:
            headers["If-Range"] = condition
    try:
        return requests.get(url, headers=headers, stream=True, timeout=timeout)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _BrokenOffError(_cause(error)) from None
    except requests.RequestException as error:
        raise AddressError(url, f"which can't be fetched: {one_line(error)}; check the address") from None


def _continues(response: requests.Response, kept: _Kept) -> bool:
    """Return whether an answer of 206 starts where what is kept ends, and is of the same version of the file.

    Some servers ignore If-Range, and some give no marks of a version.
    """
    start, total = _range(response)
    same = all(response.headers.get(mark, value) == value for mark, value in kept.version.items())
    return start == kept.size and (total is None or kept.total in (None, total)) and same


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the first byte and the size of the whole file, as Content-Range has them; None for what it leaves out."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2]) if match[2] else None) if match else (None, None)


def _refusal(url: str, response: requests.Response) -> Exception:
    """Return the error for an answer without the file: one that may pass for a server in trouble."""
    answer = f"{response.status_code} {response.reason}".rstrip()
    if response.status_code in (408, 429) or response.status_code >= 500:
        wait = response.headers.get("Retry-After", "")
        asked = int(wait) if wait.isdecimal() and int(wait) <= LONGEST_WAIT else None
        return _BrokenOffError(f"the server answers {answer}", asked)
    return AddressError(url, f"and the server answers {answer}; check the address")


def _blocks_by_requests(response: requests.Response) -> Iterator[bytes]:
    """Yield the bytes as they were sent: an archive with ``Content-Encoding: gzip`` stays packed."""
    try:
        yield from response.raw.stream(BLOCK, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise _BrokenOffError(_cause(error)) from None


@contextmanager
def _ask_by_fsspec(url: str, kept: _Kept, timeout: float) -> Iterator[_Answer]:
    """Ask for the rest of the file if it is still the one whose first bytes are kept, else for all of it."""
    import fsspec  # takes a while, and few addresses need it

    scheme, mark, _ = url.partition("://")
    try:
        if not mark:
            raise ValueError("no scheme")
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise AddressError(url, f"which needs a package: {one_line(error)}") from None
    except ValueError:
        raise AddressError(
            url, "which is no address known here; use http, https, s3, gs or another of fsspec's"
        ) from None
    try:
        files, name = fsspec.url_to_fs(url)
        total = files.info(name)["size"]
        version = {"checksum": str(files.checksum(name))}
        start = kept.size if version == kept.version else 0
        file = files.open(name, "rb")
        file.seek(start)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise AddressError(url, f"which can't be read: {one_line(error)}; check the address") from None
    except Exception as error:  # each of its protocols has errors of its own
        raise _BrokenOffError(one_line(error)) from None
    with file:
        yield _Answer(start, total, version, _blocks_by_fsspec(file))


def _blocks_by_fsspec(file: BinaryIO) -> Iterator[bytes]:
    try:
        while block := file.read(BLOCK):
            yield block
    except Exception as error:  # each of its protocols has errors of its own
        raise _BrokenOffError(one_line(error)) from None


def _kept(part: Path) -> _Kept:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        return _Kept(part.stat().st_size, note["total"], note["version"])
    except (FileNotFoundError, ValueError):  # ValueError: no JSON, as a crash of the machine may leave it
        return NOTHING


def _write_note(part: Path, url: str, total: int | None, version: dict[str, str]) -> None:
    write_text(_note(part), json.dumps({"url": url, "total": total, "version": version}) + "\n")


def _note(part: Path) -> Path:
    return part.with_suffix(".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _cause(error: BaseException) -> str:
    """Return what went wrong, without the exceptions that requests and urllib3 wrap it in."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return one_line(error)
