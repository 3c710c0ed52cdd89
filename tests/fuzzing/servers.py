"""Odd HTTP servers: an input says what one sends to each request, and what is kept of an earlier try; ``fetch`` asks.

Whatever happened, the next fetch from a good server brings the whole file.
"""

import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from fuzzing import trees
from fuzzing.fields import Table
from fuzzing.watched import Kind

from imgpipe.common.errors import InputError
from imgpipe.data.fetching import Patience, fetch

CONTENT = Random(0).randbytes(20_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATIENCE = Patience(tries=2, timeout=0.4, pause=0)
NAME = "pets.tar"

HEADERS = {
    "Content-Length": "20000", "Content-Range": "bytes 7000-19999/20000", "ETag": '"one"',
    "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Content-Type": "application/x-tar", "Retry-After": "0",
    "Location": "/pets.tar", "Transfer-Encoding": "chunked", "Content-Encoding": "gzip", "Connection": "close",
    "Set-Cookie": "a=b", "Accept-Ranges": "bytes", "WWW-Authenticate": "Basic", "Keep-Alive": "timeout=5", "X": "x",
}  # fmt: skip
VALUES = {
    "empty": "", "0": "0", "1": "1", "-1": "-1", "+20000": "+20000", "19999": "19999", "20001": "20001",
    "2^31": "2147483648", "2^63": "9223372036854775808", "5,000 digits": "9" * 5000, "60,000 digits": "9" * 60_000,
    "other digits": "\xb2\xb3", "1e3": "1e3", "0x10": "0x10", "1.5": "1.5", "nan": "nan", "two": "20000, 20000",
    "blanks": " " * 60_000, "a letter": "x", "70,000 letters": "x" * 70_000, "a NUL": "\0", "an escape": "\x1b[2J\x07",
    "Latin-1": "\xe9\xff", "a return": "a\rb", "a fold": "a\r\n b", "a colon": ":", "a weak mark": 'W/"one"',
    "a mark without end": '"', "bytes 0-": "bytes 0-19999/20000",
    "bytes of digits": f"bytes {'0' * 5000}-1/{'9' * 5000}", "bytes backwards": "bytes 19999-0/20000",
    "bytes to none": "bytes 7000-19999/0", "bytes unknown": "bytes 7000-19999/*", "bytes below": "bytes -5--1/-1",
    "lines": "bytes 7000-\r\n/1", "gzip": "gzip", "gzip often": ", ".join(["gzip"] * 1000),
    "chunked often": "chunked, chunked", "identity": "identity", "deflate": "deflate, br, zstd",
    "a time": "Fri, 31 Dec 9999 23:59:59 GMT", "an odd time": "Wed, 99 Foo 0000 99:99:99",
    "itself": "http://127.0.0.1:@port@/pets.tar", "without a scheme": "//127.0.0.1:@port@/pets.tar",
    "elsewhere": "http://example.org/pets.tar", "port 99999": "http://127.0.0.1:99999/",
    "port -1": "http://127.0.0.1:-1/", "port 0": "http://127.0.0.1:0/", "port x": "http://127.0.0.1:x/",
    "a port of digits": f"http://127.0.0.1:{'9' * 5000}/", "a file": "file:///etc/passwd",
    "an open bracket": "http://[::1", "brackets": "http://[]/", "zone": "http://[fe80::1%25lo]/",
    "no host": "http:///a", "a scheme": "gopher://127.0.0.1/", "data": "data:,a", "%00": "/%00%ff%zz",
    "a user": "http://me:secret@127.0.0.1:@port@/pets.tar", "a long host": f"http://{'a' * 300}.org/",
    "labels": f"http://{'a.' * 500}org/", "dots": "http://../", "IDNA": "http://xn--a/", "Unicode": "http://\xe9\xe9/",
    "a long path": "/" + "a" * 60_000, "up": "/../../../a", "a query": "?a=b#c", "a blank": "/a b",
    "a backslash": "http://127.0.0.1\\@example.org/", "an address as a number": "http://2130706433:1/",
    "metadata": "http://169.254.169.254/", "javascript": "javascript:alert(1)",
}  # fmt: skip
"""Values for any header."""
STATUSES = (
    0, 99, 100, 101, 102, 103, 150, 200, 201, 203, 204, 205, 206, 207, 226, 299, 300, 301, 302, 303, 304, 305, 307, 308,
    399, 400, 401, 403, 404, 407, 408, 410, 416, 418, 425, 429, 451, 499, 500, 501, 502, 503, 504, 511, 599, 600, 999,
)  # fmt: skip
LINES = {
    "empty": "", "blank": " ", "no version": "200 OK", "HTTP/0.9": "HTTP/0.9 200 OK", "HTTP/1.0": "HTTP/1.0 200 OK",
    "HTTP/2": "HTTP/2 200", "HTTP/9.9": "HTTP/9.9 200 OK", "ICY": "ICY 200 OK", "no number": "HTTP/1.1 OK",
    "a long number": f"HTTP/1.1 {'2' * 5000} OK", "-200": "HTTP/1.1 -200 OK", "no reason": "HTTP/1.1 404",
    "an escape": "HTTP/1.1 404 \x1b]0;a\x07\x1b[2J", "Latin-1": "HTTP/1.1 404 \xe9\xff", "a NUL": "HTTP/1.1 404 a\0b",
    "60,000 letters": f"HTTP/1.1 404 {'x' * 60_000}", "70,000 letters": f"HTTP/1.1 404 {'x' * 70_000}",
    "a return": "HTTP/1.1 404 a\rb", "a retry with an escape": "HTTP/1.1 503 \x1b[2J\x07", "SMTP": "220 mail",
    "SSH": "SSH-2.0-x", "TLS": "\x16\x03\x01\x02",
}  # fmt: skip
CHUNKS = {
    "good": "@length@", "-1": "-1", "-5": "-5", "empty": "", "blank": " ", "x": "x", "0x10": "0x10",
    "5,000 digits": "f" * 5000, "70,000 digits": "0" * 70_000, "2^63": "8000000000000000", "too long": "fffff",
    "an extension": "@length@;a=b", "a long extension": f"@length@;{'x' * 60_000}", "one less": "4e1f", "+": "+4e20",
    "1_0": "4_e20",
}  # fmt: skip
"""What stands before a chunk of the whole file."""


def head(status: str = "HTTP/1.1 200 OK", **headers: str) -> str:
    """The head of an answer; names of headers have _ for -."""
    lines = [status, *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines) + "\r\n\r\n"


def plain(start: int = 0, headers: Mapping[str, str] = MappingProxyType({})) -> list[list[Any]]:
    """A good answer: the file from a byte on."""
    part = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
    said = {"Content_Length": str(len(CONTENT) - start), **part, **headers}
    return [
        ["say", head("HTTP/1.1 206 Partial Content" if start else "HTTP/1.1 200 OK", **said)],
        ["file", start, len(CONTENT)],
    ]


def script(*answers: list[list[Any]], kept: int = 0, note: Any = None) -> bytes:
    """An input: what is sent to each request, the last again and again; bytes that are kept, and the note of them."""
    return json.dumps({"answers": answers, "kept": kept, "note": note}).encode()


def table() -> Table:
    cases: dict[str, bytes] = {}
    for name in HEADERS:
        for shown, value in VALUES.items():
            key = name.replace("-", "_")
            redirect = head("HTTP/1.1 302 Found", **{"Location": "/", "Content_Length": "0", key: value})
            trouble = head("HTTP/1.1 503 Busy", **{"Retry_After": "0", "Content_Length": "0", key: value})
            cases[f"200, {name}: {shown}"] = script(plain(0, {key: value}))
            cases[f"206, {name}: {shown}"] = script(plain(7000, {key: value}), kept=7000, note=NOTE)
            cases[f"302, {name}: {shown}"] = script([["say", redirect]], plain())
            cases[f"503, {name}: {shown}"] = script([["say", trouble]], plain())
    for status in STATUSES:
        for body in (0, len(CONTENT)):
            said = head(f"HTTP/1.1 {status} Reason", Content_Length=str(body))
            cases[f"status {status} with {body} bytes"] = script([["say", said], ["file", 0, body]])
            cases[f"status {status} with {body} bytes, some kept"] = script(
                [["say", said], ["file", 0, body]], kept=7000, note=NOTE
            )
            cases[f"status {status} with {body} bytes, then a good one"] = script(
                [["say", said], ["file", 0, body]], plain()
            )
    for shown, line in LINES.items():
        cases[f"status line: {shown}"] = script(
            [["say", head(line, Content_Length="20000")], ["file", 0, len(CONTENT)]]
        )
        cases[f"status line: {shown}, then nothing"] = script([["say", line]])
    for shown, length in CHUNKS.items():
        before = length.replace("@length@", f"{len(CONTENT):x}") + "\r\n"
        said = head(Transfer_Encoding="chunked")
        for end, text in {
            "": "\r\n0\r\n\r\n",
            "no end": "",
            "no last": "\r\n",
            "trailers": "\r\n0\r\n" + "a: b\r\n" * 1000 + "\r\n",
        }.items():
            cases[f"a chunk: {shown} {end}"] = script(
                [["say", said + before], ["file", 0, len(CONTENT)], ["say", text]]
            )
    whole = len(head(Content_Length="20000", ETag='"one"')) + len(CONTENT)
    for at in [*range(75), 76, 77, 1000, whole - 1]:
        for how in ("close", "reset", "wait"):
            steps = plain(0, {"ETag": '"one"'})
            cases[f"{how} after {at} bytes"] = script([["only", at], *steps, [how]])
            cases[f"{how} after {at} bytes, then well"] = script([["only", at], *steps, [how]], plain())
    for word, text in {
        "a head": "a",
        "headers": "A: b\r\n",
        "100s": "HTTP/1.1 100 Continue\r\n\r\n",
        "1xx": "HTTP/1.1 199 a\r\n\r\n",
        "blanks": "\r\n",
        "redirects": "",
    }.items():
        start = "" if word in ("100s", "1xx", "blanks") else "HTTP/1.1 200 OK\r\n"
        if text:
            cases[f"{word} for ever"] = script([["say", start], ["for ever", text * 50, 0]])
            cases[f"{word} for ever, drop by drop"] = script([["say", start], ["for ever", text, 0.1]])
    for shown, said in {
        "a body": head(),
        "chunks": head(Transfer_Encoding="chunked"),
        "a long body": head(Content_Length="999999999999"),
    }.items():
        text = "5\r\nabcde\r\n" if shown == "chunks" else "x" * 60
        cases[f"{shown} for ever"] = script([["say", said], ["for ever", text * 1000, 0]])
        cases[f"{shown} for ever, drop by drop"] = script([["say", said], ["for ever", text[:10], 0.1]])
    cases["extensions of chunks for ever"] = script(
        [["say", head(Transfer_Encoding="chunked")], ["for ever", "1;a=b", 0]]
    )
    cases["redirects for ever"] = script([["say", head("HTTP/1.1 302 Found", Location="/a", Content_Length="0")]])
    cases["headers by the thousand"] = script([["say", head(**{f"H{i}": "x" for i in range(1000)})], ["file", 0, 9]])
    cases["a redirect, then a good answer"] = script(
        [["say", head("HTTP/1.1 302 Found", Location="/pets.tar", Content_Length="0")]], plain()
    )
    made = {shown: partial(bytes, content) for shown, content in cases.items()}
    notes = trees.odd_trees(NOTE, partial(_with_note, answers=[plain(7000), plain()]))
    return made | {f"note: {shown}": make for shown, make in notes.items()}


NOTE = {"url": "@url@", "total": len(CONTENT), "version": {"ETag": '"one"'}}
"""What is written beside the bytes that are kept."""


def _with_note(note: Any, answers: Any) -> bytes:
    return script(*answers, kept=7000, note={"text": trees.as_json(note).decode()})


def random(random: Random) -> bytes:
    answers = [_random_answer(random) for _ in range(random.randrange(1, 4))]
    note = {"text": trees.as_json(trees.randomly_changed(NOTE, random)).decode()} if random.random() < 0.3 else NOTE
    kept = random.choice([0, 0, 1, 7000, len(CONTENT), len(CONTENT) + 1, 30_000])
    return script(*answers, kept=kept, note=note if kept else None)


def _random_answer(random: Random) -> list[list[Any]]:
    names = random.sample(list(HEADERS), random.randrange(4))
    headers = {name.replace("-", "_"): random.choice([HEADERS[name], *VALUES.values()]) for name in names}
    if headers.get("Retry_After", "") not in ("", "0"):
        headers["Retry_After"] = "0"  # it may ask for a minute
    start = random.choice([0, 0, 7000, 6999, 20_000])
    status = random.choice(
        ["HTTP/1.1 200 OK", "HTTP/1.1 206 Part", *LINES.values(), f"HTTP/1.1 {random.choice(STATUSES)} Reason"]
    )
    said = {"Content_Length": str(len(CONTENT) - start), "Content_Range": f"bytes {start}-19999/20000"}
    for name in random.sample(list(said), random.randrange(3)):
        del said[name]
    answer: list[list[Any]] = [["say", head(status, **(headers | said))]]
    if headers.get("Transfer_Encoding") == "chunked":
        answer.append(["say", random.choice(list(CHUNKS.values())).replace("@length@", "4e20") + "\r\n"])
    answer.append(["file", start, random.choice([len(CONTENT), len(CONTENT), start, 19_000])])
    if random.random() < 0.3:
        answer.insert(0, ["only", random.choice([random.randrange(200), random.randrange(20_000)])])
    return [*answer, [random.choice(["close", "close", "close", "reset", "wait"])]]


def _answer(connection: socket.socket, steps: list[list[Any]], port: int, over: threading.Event) -> None:
    """Sends what the steps of an answer say, once the request is there."""
    connection.settimeout(20)
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += (received := connection.recv(1 << 16))
        if not received:
            return
    left = 1 << 60

    def send(content: bytes) -> None:
        nonlocal left
        connection.sendall(content[:left])
        left -= len(content)

    for what, *how in steps:
        if left <= 0 and what in ("say", "file", "for ever"):
            continue
        match what:
            case "only":
                left = how[0]
            case "say":
                send(how[0].replace("@port@", str(port)).encode("latin-1", "replace"))
            case "file":
                send(CONTENT[how[0] : how[1]])
            case "for ever":
                while not over.wait(how[1]):
                    send(how[0].encode())
            case "wait":
                over.wait()
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def _server(answers: list[list[list[Any]]]) -> Iterator[str]:
    """A server that answers each request as the next of the answers says, and the rest as the last; its address."""
    over = threading.Event()
    left = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve(connection: socket.socket, steps: list[list[Any]]) -> None:
            with connection, contextlib.suppress(OSError):  # the client went
                _answer(connection, steps, port, over)

        def listen() -> None:
            with contextlib.suppress(OSError):  # it was closed
                while True:
                    connection, _ = listener.accept()
                    steps = left.pop(0) if len(left) > 1 else left[0]
                    threading.Thread(target=serve, args=(connection, steps), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{port}/{NAME}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


def take(content: bytes, folder: Path) -> None:
    """The whole file comes or an error; and from a good server it comes in any case, and nothing else stays."""
    said = json.loads(content)
    path, partial_downloads = folder / "raw" / NAME, folder / "partial"
    with _server(said["answers"]) as url:
        stem = hashlib.sha256(url.encode()).hexdigest()[:32]
        if said["kept"]:
            partial_downloads.mkdir()
            (partial_downloads / f"{stem}.part").write_bytes((CONTENT * 2)[: said["kept"]])
            note = said["note"].get("text") or json.dumps(said["note"])
            (partial_downloads / f"{stem}.json").write_text(note.replace("@url@", url))
        error = None
        try:
            fetch(url, path, partial=partial_downloads, sha256=SHA256, patience=PATIENCE)
        except InputError as refusal:
            error = refusal
        assert path.exists() == (error is None)
        assert path.exists() is False or path.read_bytes() == CONTENT
    again = folder / "again" / NAME
    with _server([plain()]) as good:
        old = hashlib.sha256(good.encode()).hexdigest()[:32]
        for file in list(partial_downloads.glob(f"{stem}.*")):
            file.rename(file.with_name(file.name.replace(stem, old)))
        fetch(good, again, partial=partial_downloads, sha256=SHA256, patience=PATIENCE)
    assert again.read_bytes() == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        {"again", "partial"} | ({"raw"} if path.parent.exists() else set())
    )
    if error:
        raise error


KIND = Kind(table, random, take, seconds=15, connects=True)
