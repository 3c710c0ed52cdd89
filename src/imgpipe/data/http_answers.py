"""Answers of HTTP servers that must come in time, whole up to the body, and be mostly the file.

A timeout of requests is for each single wait: a server that sends a byte now and then would keep it for ever.
"""

import http.client
import io
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter

LEAST_RATE = 1000
"""Bytes a second that must come on average over each ``timeout``."""
LINES_SHARE = 8
"""Part of what comes, as a divisor, that lines may be: of the head, and between a body's chunks."""
MOST_LINES = 1 << 17
"""Bytes of lines that an answer may have beyond that part."""
REDIRECTS = (301, 302, 303, 307, 308)


def timely_session() -> requests.Session:
    """Return a session whose answers raise OSError, or what requests makes of it, where a server plays for time."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


class _Adapter(HTTPAdapter):
    """Makes connections, to proxies too, whose answers are ``_Answer``."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = type("_Connection", (pool.ConnectionCls,), {"response_class": _Answer})
        return pool


class _Answer(http.client.HTTPResponse):
    """An answer read from ``_Arriving``."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._arriving = _Arriving(self.fp.detach(), sock.gettimeout())
        self.fp = _Lines(self._arriving)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._arriving.in_head = False
        if self.status in REDIRECTS:  # requests would read its body to memory, however long that is
            for name in ("Transfer-Encoding", "Content-Length"):
                del self.headers[name]
            self.headers["Content-Length"] = "0"
            self.length, self.chunked, self.will_close = 0, False, True


class _Arriving(io.RawIOBase):
    """The bytes of a connection. Raises OSError where they come too slowly, or end or take too long within the head."""

    def __init__(self, connection: Any, timeout: float | None) -> None:
        self._connection = connection
        self._timeout = timeout or float("inf")
        self._waited = 0.0
        self._came = 0
        self.in_head = True
        self.total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        began = time.monotonic()
        came: int = self._connection.readinto(buffer) or 0
        self._waited += time.monotonic() - began
        self._came += came
        self.total += came
        if self.in_head and not came:
            raise ConnectionError("the connection ended within the head of the answer")
        if self._waited > self._timeout:
            if self.in_head:
                raise TimeoutError(f"the head of the answer did not come in {self._timeout:g} s")
            if self._came < LEAST_RATE * self._waited:
                raise TimeoutError(f"only {self._came} bytes came in {self._waited:.1f} s")
            self._waited, self._came = 0.0, 0
        return came

    def close(self) -> None:
        self._connection.close()
        super().close()


class _Lines(io.BufferedReader):
    """Raises ConnectionError where too much of what came are lines: of the head, and between and behind chunks."""

    raw: _Arriving
    _of_lines = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self._of_lines += len(line)
        if LINES_SHARE * self._of_lines > self.raw.total + LINES_SHARE * MOST_LINES:
            raise ConnectionError(f"{self._of_lines} bytes of the answer are none of the file")
        return line
