"""Ask an address for a file, or for the rest of one whose first bytes are kept."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import requests

from imgpipe.common.errors import InputError, one_line, without_secrets
from imgpipe.data.http_answers import timely_session

BLOCK = 1 << 16
"""Bytes that are read at a time."""
LONGEST_WAIT = 60
"""Seconds, the longest pause that a server may ask for."""
LONGEST_REASON = 80
"""Letters of a server's reason that are shown."""


class AddressError(InputError):
    """Says why an address gives no file: "'http://...', and ...", to stand after the parameter's name and "is"."""

    def __init__(self, url: str, reason: str) -> None:
        shown = without_secrets(url)
        super().__init__(f"'{shown}', {reason.replace(url, shown)}")


@dataclass(frozen=True)
class Kept:
    """What came before: so many bytes of ``total``, if that is known, and the server's marks of the file's version."""

    size: int
    total: int | None
    version: dict[str, str]


NOTHING = Kept(0, None, {})


@dataclass(frozen=True)
class Answer:
    """The file's bytes from ``start`` on; ``total`` and ``version`` as in Kept."""

    start: int
    total: int | None
    version: dict[str, str]
    blocks: Iterator[bytes]


class BrokenOffError(Exception):
    """Says why a download broke off, which may pass. wait: seconds of pause, where the server asks for one."""

    def __init__(self, reason: str, wait: int | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def ask(url: str, kept: Kept, timeout: float) -> AbstractContextManager[Answer]:
    """Ask once for the rest of a file, or for all of it, and yield the answer.

    Raises AddressError where the server refuses, and BrokenOffError for what may pass, also while the blocks are read.
    """
    by = _ask_by_requests if url.lower().startswith(("http://", "https://")) else _ask_by_fsspec
    return by(url, kept, timeout)


@contextmanager
def _ask_by_requests(url: str, kept: Kept, timeout: float) -> Iterator[Answer]:
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
            start, total = 0, _number(response.headers.get("Content-Length", ""))
        else:
            raise _refusal(url, response)
        marks = {
            mark: response.headers[mark]
            for mark in ("ETag", "Last-Modified")
            if response.headers.get(mark, "\n").isprintable()  # others can't be sent back
        }
        yield Answer(start, total, marks, _blocks_by_requests(response))


def _response(url: str, kept: Kept, timeout: float) -> requests.Response:
    headers = {"Accept-Encoding": "identity"}  # the file as it is stored, not packed for the way
    if kept.size:
        headers["Range"] = f"bytes={kept.size}-"
        tag = kept.version.get("ETag", "W/")
        condition = kept.version.get("Last-Modified") if tag.startswith("W/") else tag  # weak ones are not allowed
        if condition:
            headers["If-Range"] = condition
    try:
        with timely_session() as session:
            return session.get(url, headers=headers, stream=True, timeout=timeout)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise BrokenOffError(_cause(error)) from None
    except Exception as error:  # requests has errors of its own for most of what a server may send, but not for all
        raise AddressError(url, f"which can't be fetched: {one_line(error)}; check the address") from None


def _continues(response: requests.Response, kept: Kept) -> bool:
    """Return whether an answer of 206 starts where what is kept ends, and is of the same version of the file.

    Some servers ignore If-Range, and some give no marks of a version.
    """
    start, total = _range(response)
    same = all(response.headers.get(mark, value) == value for mark, value in kept.version.items())
    return start == kept.size and (total is None or kept.total in (None, total)) and same


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the first byte and the size of the whole file, as Content-Range has them; None for what it leaves out."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return (_number(match[1]), _number(match[2])) if match else (None, None)


def _number(text: str) -> int | None:
    """Return the whole number that a header says; None where it says none, or one that no file's size is."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _refusal(url: str, response: requests.Response) -> Exception:
    """Return the error for an answer without the file: one that may pass for a server in trouble."""
    answer = f"{response.status_code} {response.reason[:LONGEST_REASON]}".rstrip()
    if response.status_code in (408, 429) or response.status_code >= 500:
        asked = _number(response.headers.get("Retry-After", ""))
        return BrokenOffError(f"the server answers {answer}", None if asked is None or asked > LONGEST_WAIT else asked)
    return AddressError(url, f"and the server answers {answer}; check the address")


def _blocks_by_requests(response: requests.Response) -> Iterator[bytes]:
    """Yield the bytes as they were sent: an archive with ``Content-Encoding: gzip`` stays packed."""
    try:
        yield from response.raw.stream(BLOCK, decode_content=False)
    except Exception as error:  # urllib3 has errors of its own for most of what a server may send, but not for all
        raise BrokenOffError(_cause(error)) from None


@contextmanager
def _ask_by_fsspec(url: str, kept: Kept, timeout: float) -> Iterator[Answer]:
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
        raise BrokenOffError(one_line(error)) from None
    with file:
        yield Answer(start, total, version, _blocks_by_fsspec(file))


def _blocks_by_fsspec(file: BinaryIO) -> Iterator[bytes]:
    try:
        while block := file.read(BLOCK):
            yield block
    except Exception as error:  # each of its protocols has errors of its own
        raise BrokenOffError(one_line(error)) from None


def _cause(error: BaseException) -> str:
    """Return what went wrong, without the exceptions that requests and urllib3 wrap it in."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return one_line(error)
