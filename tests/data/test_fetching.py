"""Downloads from real servers on this machine that misbehave in every way known."""

import contextlib
import gzip
import hashlib
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from conftest import ROOT
from fsspec.implementations.memory import MemoryFile

from imgpipe.common.errors import InputError
from imgpipe.data import fetching
from imgpipe.data.asking import BLOCK
from imgpipe.data.fetching import AddressError, HashError, Patience, fetch

THOUSAND = np.random.default_rng(0).bytes(1000)
OTHERS = np.random.default_rng(1).bytes(1000)
LONG = np.random.default_rng(2).bytes(3 * BLOCK)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Server:
    """A server of one file: it answers each request as the next line of its plan says, and the rest as the last."""

    url: str
    content: bytes = THOUSAND
    marks: dict[str, str] = field(default_factory=dict)
    plan: list[Callable[[BaseHTTPRequestHandler, "Server"], None]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each request so far."""
        return [headers.get("Range") for headers in self.asked]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(dict(self.headers))
            (state.plan.pop(0) if len(state.plan) > 1 else state.plan[0])(self, state)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        state = Server(f"http://127.0.0.1:{listener.server_port}/pets.tar")
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield state
        state.over.set()
        listener.shutdown()


def answer(
    *,
    content: bytes | None = None,
    marks: dict[str, str] | None = None,
    ranges: bool = True,
    conditions: bool = True,
    length: bool = True,
    upto: int | None = None,
    then_hang: bool = False,
    shift: int = 0,
) -> Callable[[BaseHTTPRequestHandler, Server], None]:
    """An answer as a good server gives it, but for what the arguments say.

    content, marks: what the server has from now on.
    upto: where in the file it closes the connection, or hangs.
    shift: of the first byte of a part, from the one that was asked for.
    """

    def send(handler: BaseHTTPRequestHandler, server: Server) -> None:
        server.content = server.content if content is None else content
        server.marks = server.marks if marks is None else marks
        total, asked, condition = len(server.content), handler.headers["Range"], handler.headers["If-Range"]
        first = 0
        if asked and ranges and (not conditions or condition in (None, *server.marks.values())):
            first = int(asked.removeprefix("bytes=").removesuffix("-")) + shift
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        else:
            handler.send_response(200)
        for mark, value in server.marks.items():
            handler.send_header(mark, value)
        if length:
            handler.send_header("Content-Length", str(total - first))
        handler.end_headers()
        handler.wfile.write(server.content[first:upto])
        handler.wfile.flush()
        if then_hang:
            server.over.wait()

    return send


def refuse(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler, Server], None]:
    def send(handler: BaseHTTPRequestHandler, server: Server) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(b"no")

    return send


def hang(handler: BaseHTTPRequestHandler, server: Server) -> None:
    server.over.wait()


def get(url: str, folder: Path, content: bytes | None = THOUSAND, **patience: Any) -> bytes:
    """What a fetch of a file with this content leaves at its path."""
    path = folder / "raw/pets.tar"
    fetch(
        url,
        path,
        partial=folder / "partial",
        sha256=None if content is None else sha256(content),
        patience=Patience(**{"tries": 5, "timeout": 30, "pause": 0, **patience}),
    )
    return path.read_bytes()


def kept(folder: Path) -> bytes | None:
    """The bytes in the folder of partial downloads; None if it is empty."""
    files = sorted(file for file in (folder / "partial").iterdir() if file.suffix != ".lock")  # which a kill leaves
    if not files:
        return None
    assert [file.suffix for file in files] == [".json", ".part"]
    return files[1].read_bytes()


def test_a_file_comes_whole_and_nothing_else_stays(server: Server, tmp_path: Path) -> None:
    server.plan = [answer()]
    path = tmp_path / "raw/pets.tar"
    fetch(server.url, path, partial=tmp_path / "partial", sha256=sha256(THOUSAND).upper())
    assert path.read_bytes() == THOUSAND
    assert kept(tmp_path) is None
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["pets.tar"]
    assert server.asked[0]["Accept-Encoding"] == "identity"


def test_capitals_in_an_address_do_not_matter(server: Server, tmp_path: Path) -> None:
    server.plan = [answer()]
    assert get(server.url.replace("http://", "HTTP://"), tmp_path) == THOUSAND


def test_an_empty_file_is_a_file(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(content=b"")]
    assert get(server.url, tmp_path, b"") == b""


def test_without_a_hash_the_error_says_it_and_once_it_is_pasted_nothing_is_asked_again(
    server: Server, tmp_path: Path
) -> None:
    server.plan = [answer(length=False)]
    for _ in range(2):
        with pytest.raises(HashError) as refusal:
            get(server.url, tmp_path, None)
        assert str(refusal.value) == (
            f"null, which a URL needs; what came has sha256: {sha256(THOUSAND)} (1000 bytes); paste it if you trust it"
        )
        assert not (tmp_path / "raw/pets.tar").exists()
    server.plan = [refuse(500)]
    assert get(server.url, tmp_path) == THOUSAND
    assert len(server.asked) == 1
    assert kept(tmp_path) is None


def test_a_connection_that_closes_early_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.marks = {"ETag": '"one"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    server.plan = [answer(upto=300), answer(upto=301), answer(upto=999), answer()]
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, "bytes=300-", "bytes=301-", "bytes=999-"]
    assert [headers.get("If-Range") for headers in server.asked] == [None, '"one"', '"one"', '"one"']


@pytest.mark.parametrize(
    ("marks", "condition"),
    [
        ({"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ({"ETag": 'W/"one"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ({"ETag": 'W/"one"'}, None),
        ({}, None),
    ],
)
def test_a_rest_is_asked_for_on_condition_of_a_strong_mark(
    server: Server, tmp_path: Path, marks: dict[str, str], condition: str | None
) -> None:
    server.marks = marks
    server.plan = [answer(upto=300), answer()]
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, "bytes=300-"]
    assert server.asked[1].get("If-Range") == condition


def test_after_the_last_try_the_error_says_why_and_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(upto=300), answer(upto=400), refuse(503), answer()]
    with pytest.raises(AddressError) as refusal:
        get(server.url, tmp_path, tries=3)
    assert str(refusal.value) == (
        f"'{server.url}', and the last of 3 tries failed: "
        "the server answers 503 Service Unavailable; "
        "the 400 bytes that came are kept, and the next run goes on from them"
    )
    assert kept(tmp_path) == THOUSAND[:400]
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, "bytes=300-", "bytes=400-", "bytes=400-"]


def started(server: Server, folder: Path) -> subprocess.Popen[bytes]:
    """A process of its own that downloads, once two blocks have come; the server is to stop there."""
    program = f"""
from pathlib import Path
from imgpipe.data.fetching import Patience, fetch
folder = Path({str(folder)!r})
path, partial = folder / "raw/pets.tar", folder / "partial"
fetch({server.url!r}, path, partial=partial, sha256=None, patience=Patience(tries=1, timeout=600, pause=0))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT / "src", stdout=subprocess.DEVNULL)
    while sum(part.stat().st_size for part in folder.glob("partial/*.part")) < 2 * BLOCK:
        assert process.poll() is None, "the download ended before it was killed"
        time.sleep(0.01)
    return process


def test_after_a_kill_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.content = LONG
    server.marks = {"ETag": '"long"'}
    server.plan = [answer(upto=2 * BLOCK + 100, then_hang=True), answer()]
    process = started(server, tmp_path)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert kept(tmp_path) == LONG[: 2 * BLOCK]
    assert get(server.url, tmp_path, LONG) == LONG
    assert server.ranges == [None, f"bytes={2 * BLOCK}-"]
    assert kept(tmp_path) is None


@pytest.mark.parametrize(
    ("second", "ranges"),
    [
        (answer(ranges=False), [None, "bytes=300-"]),
        (answer(content=OTHERS, marks={"ETag": '"two"'}), [None, "bytes=300-"]),
        (answer(content=OTHERS, marks={"ETag": '"two"'}, conditions=False), [None, "bytes=300-", None]),
        (answer(shift=1), [None, "bytes=300-", None]),
        (answer(shift=-1), [None, "bytes=300-", None]),
        (refuse(206), [None, "bytes=300-", None]),
        (refuse(416, Content_Range="bytes */1000"), [None, "bytes=300-", None]),
    ],
    ids=["no ranges", "other file", "other file, If-Range ignored", "too late", "too early", "no Content-Range", "416"],
)
def test_where_the_server_does_not_give_the_rest_all_comes_anew(
    server: Server, tmp_path: Path, second: Callable[..., None], ranges: list[str | None]
) -> None:
    server.marks = {"ETag": '"one"'}
    server.plan = [answer(upto=300), second, answer()]
    with pytest.raises(InputError):
        get(server.url, tmp_path, tries=1)
    with pytest.raises(InputError) as refusal:
        get(server.url, tmp_path, None, tries=1)  # without a hash, which would mend a file of two halves
    assert sha256(server.content) in str(refusal.value)
    assert server.ranges == ranges


def test_a_file_of_another_size_is_another_file_also_without_marks(server: Server, tmp_path: Path) -> None:
    longer = OTHERS + b"more"
    server.plan = [answer(upto=300), answer(content=longer)]
    with pytest.raises(InputError, match=sha256(longer)):
        get(server.url, tmp_path, None)
    assert server.ranges == [None, "bytes=300-", None]


def test_two_halves_of_different_files_of_one_size_are_found_by_the_hash_and_all_comes_anew(
    server: Server, tmp_path: Path
) -> None:
    server.plan = [answer(upto=300), answer(content=OTHERS)]
    assert get(server.url, tmp_path, OTHERS) == OTHERS
    assert server.ranges == [None, "bytes=300-", None]


def test_a_part_may_end_before_the_file_does_and_not_say_how_long_that_is(server: Server, tmp_path: Path) -> None:
    def part(first: int, end: int, total: str) -> Callable[[BaseHTTPRequestHandler, Server], None]:
        def send(handler: BaseHTTPRequestHandler, server: Server) -> None:
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{end - 1}/{total}")
            handler.send_header("Content-Length", str(end - first))
            handler.end_headers()
            handler.wfile.write(server.content[first:end])

        return send

    server.marks = {"ETag": '"one"'}  # which the parts leave out
    server.plan = [answer(upto=300), part(300, 600, "1000"), part(600, 800, "*"), answer()]
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, "bytes=300-", "bytes=600-", "bytes=800-"]


def test_a_wrong_hash_is_named_beside_the_right_one_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    server.plan = [answer()]
    with pytest.raises(HashError) as refusal:
        get(server.url, tmp_path, OTHERS)
    assert str(refusal.value) == (
        f"'{sha256(OTHERS)}', but {server.url} has {sha256(THOUSAND)}; check the address, or paste that if you trust it"
    )
    assert len(server.asked) == 1
    assert kept(tmp_path) is None
    assert not (tmp_path / "raw/pets.tar").exists()


def test_a_pieced_file_with_a_wrong_hash_comes_anew_once_only(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(upto=300), answer()]
    with pytest.raises(InputError, match=f"but {server.url} has {sha256(THOUSAND)}"):
        get(server.url, tmp_path, OTHERS)
    assert server.ranges == [None, "bytes=300-", None]
    assert kept(tmp_path) is None


def test_a_kept_file_that_is_not_the_wanted_one_comes_anew(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(), answer(content=OTHERS)]
    with pytest.raises(InputError, match=sha256(THOUSAND)):
        get(server.url, tmp_path, None)
    assert get(server.url, tmp_path, OTHERS) == OTHERS
    assert server.ranges == [None, None]


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (403, "Forbidden"), (204, "No Content")])
def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path, status: int, reason: str) -> None:
    server.plan = [refuse(status)]
    with pytest.raises(AddressError) as refusal:
        get(server.url, tmp_path)
    assert str(refusal.value) == f"'{server.url}', and the server answers {status} {reason}; check the address"
    assert len(server.asked) == 1


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for, none of which is made."""
    pauses: list[float] = []
    monkeypatch.setattr("imgpipe.data.fetching.time.sleep", pauses.append)
    return pauses


def test_a_server_in_trouble_is_asked_again_after_longer_and_longer_pauses(
    server: Server, tmp_path: Path, waits: list[float]
) -> None:
    server.plan = [refuse(500), refuse(500), refuse(408), answer()]
    assert get(server.url, tmp_path, pause=1.5) == THOUSAND
    assert waits == [1.5, 3.0, 6.0]


@pytest.mark.parametrize(
    ("asked", "wait"), [("7", 7), ("60", 60), ("61", 1.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 1.5), ("0", 0)]
)
def test_a_server_may_ask_for_a_pause_of_a_minute_at_most(
    server: Server, tmp_path: Path, waits: list[float], asked: str, wait: float
) -> None:
    server.plan = [refuse(429, Retry_After=asked), answer()]
    assert get(server.url, tmp_path, pause=1.5) == THOUSAND
    assert waits == [wait]


def test_a_server_in_trouble_for_ever_is_given_up(server: Server, tmp_path: Path, waits: list[float]) -> None:
    server.plan = [refuse(500)]
    with pytest.raises(InputError, match=r"the last of 4 tries failed: the server answers 500 .*; the 0 bytes"):
        get(server.url, tmp_path, tries=4, pause=1)
    assert len(server.asked) == 4
    assert waits == [1, 2, 4]


def test_a_server_that_never_answers_is_given_up(server: Server, tmp_path: Path) -> None:
    server.plan = [hang]
    with pytest.raises(InputError, match="the last of 2 tries failed: timed out; the 0 bytes"):
        get(server.url, tmp_path, tries=2, timeout=0.05)


def test_a_server_that_stops_in_the_middle_is_asked_for_the_rest(server: Server, tmp_path: Path) -> None:
    server.content = LONG
    server.plan = [answer(upto=BLOCK + 100, then_hang=True)]
    while not any(server.ranges) and len(server.ranges) < 50:  # a busy machine may be too slow for the first block
        with pytest.raises(InputError, match="the last of 1 tries failed: timed out"):
            get(server.url, tmp_path, LONG, tries=1, timeout=0.2)
    server.plan = [answer()]
    assert get(server.url, tmp_path, LONG) == LONG
    assert set(server.ranges) == {None, f"bytes={BLOCK}-"}


def test_where_nobody_listens_the_error_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InputError, match=r"the last of 2 tries failed: \[Errno \d+\] Connection refused; the 0 bytes"):
        get(f"http://127.0.0.1:{port}/pets.tar", tmp_path, tries=2)


def test_an_archive_stays_packed_though_the_server_calls_that_an_encoding(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("pets/cat/1.png"))
    packed = buffer.getvalue()
    assert gzip.decompress(packed)
    server.plan = [answer(content=packed, marks={"Content-Encoding": "gzip"})]
    assert get(server.url, tmp_path, packed) == packed


def chunks_until(end: int) -> Callable[[BaseHTTPRequestHandler, Server], None]:
    """An answer in chunks of 100 bytes that breaks off at a byte; there is no Content-Length, only a last chunk."""

    def send(handler: BaseHTTPRequestHandler, server: Server) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for start in range(0, end, 100):
            handler.wfile.write(b"64\r\n" + server.content[start : start + 100] + b"\r\n")
        if end == len(server.content):
            handler.wfile.write(b"0\r\n\r\n")

    return send


def test_a_file_of_unknown_length_comes_whole(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(length=False)]
    assert get(server.url, tmp_path) == THOUSAND
    server.plan = [chunks_until(1000)]
    assert get(server.url, tmp_path) == THOUSAND


def test_a_file_of_unknown_length_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.plan = [chunks_until(300), answer()]
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, "bytes=300-"]


def test_redirections_are_followed_for_the_rest_too(server: Server, tmp_path: Path) -> None:
    on = refuse(302, Location="/elsewhere/pets.tar")
    server.plan = [on, answer(upto=300), on, answer()]
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, None, "bytes=300-", "bytes=300-"]


def test_redirections_without_end_are_told_at_once(server: Server, tmp_path: Path) -> None:
    server.plan = [refuse(302, Location="/pets.tar")]
    with pytest.raises(InputError, match=r"which can't be fetched: Exceeded 30 redirects\.; check the address"):
        get(server.url, tmp_path)


def test_a_damaged_note_means_a_new_start(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(upto=300), answer()]
    with pytest.raises(InputError):
        get(server.url, tmp_path, tries=1)
    (note,) = tmp_path.glob("partial/*.json")
    assert json.loads(note.read_text()) == {"url": server.url, "total": 1000, "version": {}}
    note.write_text("")
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, None]


def test_two_addresses_are_kept_apart(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(upto=300), answer(content=OTHERS)]
    with pytest.raises(InputError):
        get(server.url, tmp_path, tries=1)
    assert get(f"{server.url}?other", tmp_path, OTHERS) == OTHERS
    assert kept(tmp_path) == THOUSAND[:300]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full, a disk without room")
def test_a_full_disk_is_told_in_one_line(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(upto=300), answer()]
    with pytest.raises(InputError):
        get(server.url, tmp_path, tries=1)
    (part,) = tmp_path.glob("partial/*.part")
    part.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(InputError) as refusal:
        get(server.url, tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path}/raw/pets.tar can't be written: [Errno 28] No space left on device; "
        f"what came is kept in {tmp_path}/partial: put that right and run again"
    )


def test_where_the_place_is_taken_by_a_folder_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.plan = [answer()]
    (tmp_path / "raw/pets.tar").mkdir(parents=True)
    with pytest.raises(InputError, match=r"raw/pets.tar can't be written: \[Errno 21\] Is a directory"):
        get(server.url, tmp_path)
    (tmp_path / "raw/pets.tar").rmdir()
    assert get(server.url, tmp_path) == THOUSAND
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://pets.tar", "which is no address known here; use http, https, s3, gs or another of fsspec's"),
        ("pets.tar", "which is no address known here; use http, https, s3, gs or another of fsspec's"),
        ("shelf://pets.tar", "which needs a package: Install shelffs to reach the shelf"),
        ("http://", "which can't be fetched: Invalid URL 'http://': No host supplied; check the address"),
        ("memory://nobody/pets.tar", "which can't be read: /nobody/pets.tar; check the address"),
    ],
)
def test_addresses_that_lead_nowhere_are_named(tmp_path: Path, url: str, message: str) -> None:
    fsspec.register_implementation("shelf", "shelffs.Shelf", errtxt="Install shelffs to reach the shelf", clobber=True)
    with pytest.raises(AddressError) as refusal:
        get(url, tmp_path)
    assert str(refusal.value) == f"'{url}', {message}"


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Files of fsspec's memory:// at whose third reading the connection breaks. The places where they were read."""
    places: list[int] = []

    def read(file: MemoryFile, size: int) -> bytes:
        places.append(file.tell())
        if len(places) == 3:
            raise ConnectionResetError("reset by peer")
        return io.BytesIO.read(file, size)

    monkeypatch.setattr(MemoryFile, "read", read)
    yield places
    fsspec.filesystem("memory").rm("/pets.tar")


def test_other_protocols_are_taken_up_where_they_broke(tmp_path: Path, in_memory: list[int]) -> None:
    fsspec.filesystem("memory").pipe("/pets.tar", LONG)
    with pytest.raises(InputError, match=f"the last of 1 tries failed: reset by peer; the {2 * BLOCK} bytes"):
        get("memory://pets.tar", tmp_path, LONG, tries=1)
    assert get("memory://pets.tar", tmp_path, LONG) == LONG
    assert in_memory == [0, BLOCK, 2 * BLOCK, 2 * BLOCK, 3 * BLOCK]


def test_a_file_of_another_protocol_that_changed_comes_anew(tmp_path: Path, in_memory: list[int]) -> None:
    fsspec.filesystem("memory").pipe("/pets.tar", LONG[::-1])
    with pytest.raises(InputError):
        get("memory://pets.tar", tmp_path, LONG, tries=1)
    fsspec.filesystem("memory").pipe("/pets.tar", LONG)
    with pytest.raises(InputError, match=sha256(LONG)):
        get("memory://pets.tar", tmp_path, None)
    assert in_memory == [0, BLOCK, 2 * BLOCK, 0, BLOCK, 2 * BLOCK, 3 * BLOCK]


Answer = Callable[[socket.socket], None]
"""What a server does on a connection once it was asked; then it closes."""
GOOD = b"HTTP/1.1 200 OK\r\nServer: good\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"


@dataclass
class RawServer:
    """A server that answers each connection to the byte as the next line of its plan says, and the rest as the last."""

    url: str
    plan: list[Answer | bytes] = field(default_factory=list)
    asked: int = 0


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    listener = socket.create_server(("127.0.0.1", 0))
    state = RawServer(f"http://127.0.0.1:{listener.getsockname()[1]}/pets.tar")

    def answer_one(connection: socket.socket, answer: Answer | bytes) -> None:
        with connection, contextlib.suppress(OSError):  # the client may close first
            while not connection.recv(1 << 16).endswith(b"\r\n\r\n"):
                pass
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                state.asked += 1
                answer = state.plan.pop(0) if len(state.plan) > 1 else state.plan[0]
                threading.Thread(target=answer_one, args=(connection, answer)).start()

    thread = threading.Thread(target=serve)
    thread.start()
    yield state
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


REDIRECTION = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere/pets.tar\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "head", [GOOD, GOOD.replace(b"Content-Length", b"X"), REDIRECTION], ids=["", "no length", "on"]
)
def test_a_connection_that_ends_anywhere_in_the_head_is_tried_again(
    raw: RawServer, tmp_path: Path, head: bytes
) -> None:
    for end in range(len(head)):
        raw.plan, raw.asked = [head[:end], GOOD + THOUSAND], 0
        assert get(raw.url, tmp_path, tries=2) == THOUSAND
        assert raw.asked == 2, head[:end]


def drops(start: bytes, drop: bytes, pause: float = 0.02) -> Answer:
    """An answer that goes on without an end, a drop after each pause."""

    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(drop)
            time.sleep(pause)

    return send


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WITHOUT_END = {
    "head by the byte": (drops(OK + b"X: ", b"x"), "the head of the answer did not come in 0.3 s"),
    "head by the line": (drops(OK, b"X: x\r\n"), "the head of the answer did not come in 0.3 s"),
    "100 Continue now and then": (drops(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "the head of the answer did not come"),
    "100 Continue at once": (drops(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0), "bytes of the answer are none of"),
    "head of lines": (drops(OK, b"X: x\r\n" * 1000, 0), "got more than 100 headers"),
    "line of a head": (drops(OK + b"X: ", b"x" * 10_000, 0), "got more than 65536 bytes when reading header line"),
    "status line": (drops(b"HTTP/1.1 200 ", b"x" * 10_000, 0), "got more than 65536 bytes when reading status line"),
    "body by the byte": (drops(OK + b"Content-Length: 1000\r\n\r\n", b"x"), r"only \d+ bytes came in 0\.\d s"),
    "body of no length by the byte": (drops(OK + b"\r\n", b"x"), r"only \d+ bytes came in 0\.\d s"),
    "chunks by the byte": (drops(CHUNKED, b"1\r\nx\r\n"), r"only \d+ bytes came in 0\.\d s"),
    "chunks of five bytes": (drops(CHUNKED, b"5\r\nabcde\r\n" * 1000, 0), "bytes of the answer are none of the file"),
    "length of a chunk": (drops(CHUNKED, b"0" * 10_000, 0), "[Cc]hunk|chunk|bytes of the answer are none of the file"),
    "chunks of a byte with much to say": (drops(CHUNKED, b"1;" + b"x" * 5000 + b"\r\nx\r\n", 0), "bytes of the answer"),
    "what is behind the last chunk": (drops(CHUNKED + b"0\r\n", b"X: x\r\n" * 1000, 0), "bytes of the answer are none"),
    "body of a redirection to itself": (drops(REDIRECTION, b"x" * 10_000, 0), "Exceeded 30 redirects"),
    "chunks of a redirection to itself": (
        drops(REDIRECTION[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"64\r\n" + b"x" * 100 + b"\r\n", 0),
        "Exceeded 30 redirects",
    ),
}
"""Answers that would keep a client for ever, and what is said of them."""


@pytest.mark.parametrize("kind", WITHOUT_END)
def test_an_answer_that_comes_drop_by_drop_or_without_an_end_is_given_up(
    raw: RawServer, tmp_path: Path, kind: str
) -> None:
    answer, reason = WITHOUT_END[kind]
    raw.plan = [answer]
    began = time.monotonic()
    with pytest.raises(AddressError, match=reason):
        get(raw.url, tmp_path, tries=1, timeout=0.3)
    assert time.monotonic() - began < 5


def test_a_slow_but_steady_server_is_waited_for(raw: RawServer, tmp_path: Path) -> None:
    def steady(connection: socket.socket) -> None:
        connection.sendall(GOOD)
        for start in range(0, 1000, 100):
            connection.sendall(THOUSAND[start : start + 100])
            time.sleep(0.05)

    raw.plan = [steady]
    assert get(raw.url, tmp_path, tries=1, timeout=0.2) == THOUSAND


def test_a_body_of_no_length_may_take_half_of_the_free_disk(
    raw: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "UNSAID_SHARE", shutil.disk_usage(tmp_path).free // (1 << 20))  # a MiB, or so
    for head in (OK + b"\r\n", CHUNKED):
        raw.plan = [drops(head, b"2710\r\n" + b"x" * 10_000 + b"\r\n", 0)]
        with pytest.raises(
            AddressError, match=r"which sends more than \d{6,7} bytes without an end; check the address"
        ):
            get(raw.url, tmp_path)
        assert raw.asked == 1
        raw.asked = 0


LENGTH = OK + b"Connection: close\r\nContent-Length: "
ON = b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: "
TRIED = "the last of 1 tries failed: "
ODD_ANSWERS = {
    LENGTH + b"9" * 17 + b"\r\n\r\n": "whose 99,999,999,999,999,999 bytes do not fit on the disk: ",
    LENGTH + b"9" * 4000 + b"\r\n\r\n": TRIED,
    LENGTH + b"9" * 5000 + b"\r\n\r\n": "",
    LENGTH + b"-5\r\n\r\n": "",
    LENGTH + b"1e3\r\n\r\n": "",
    LENGTH + b"\xb2\r\n\r\n": "",
    LENGTH + b"5, 7\r\n\r\n": "",
    CHUNKED + b"-5\r\nabcdefgh": TRIED,
    CHUNKED + b"-1\r\nabcdefgh": TRIED,
    CHUNKED + b"f" * 50 + b"\r\nabcdefgh": TRIED,
    CHUNKED + b"zz\r\nabcdefgh": TRIED,
    CHUNKED + b"5": TRIED,
    ON + b"http://127.0.0.1:99999/\r\n\r\n": "which can't be fetched: ",
    ON + b"http://127.0.0.1:-1/\r\n\r\n": "which can't be fetched: ",
    ON + b"http://127.0.0.1:" + b"9" * 5000 + b"/\r\n\r\n": "which can't be fetched: ",
    ON + b"http://[::1/\r\n\r\n": "which can't be fetched: ",
    ON + b"http://\xff\xfe/\r\n\r\n": "which can't be fetched: ",
    ON + b"/\xff\xfe\r\n\r\n": "which can't be fetched: ",
    ON + b"file:///etc/passwd\r\n\r\n": "which can't be fetched: No connection adapters",
    ON + b"http://" + b"a" * 300 + b"/\r\n\r\n": "",
    ON + b"http://a..b/\r\n\r\n": "",
    b"HTTP/1.1 503 no\r\nRetry-After: " + b"9" * 5000 + b"\r\n\r\n": TRIED + "the server answers 503 no; ",
    b"HTTP/1.1 503 " + b"no" * 500 + b"\r\n\r\n": TRIED + "the server answers 503 " + "no" * 40 + "; ",
    b"HTTP/1.1 9999 OK\r\n\r\n": TRIED,
    b"HTTP/7 200 OK\r\n\r\n": TRIED,
    b"\0\0\0\r\n\r\n": TRIED,
    b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n\r\n": TRIED,
}
"""Answers that are odd, and what is said of them."""


@pytest.mark.parametrize("answer", ODD_ANSWERS, ids=range(len(ODD_ANSWERS)))
def test_an_odd_answer_is_an_error_in_one_line(raw: RawServer, tmp_path: Path, answer: bytes) -> None:
    raw.plan = [answer]
    with pytest.raises(InputError) as refusal:
        get(raw.url, tmp_path, tries=1)
    assert ODD_ANSWERS[answer] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("size", ["9" * 5000, "9" * 4000, "0", "-7", "*"])
def test_an_odd_range_is_none(raw: RawServer, tmp_path: Path, size: str) -> None:
    part = b"HTTP/1.1 206 Part\r\nConnection: close\r\nContent-Range: bytes %s-%s/%s\r\n\r\n" + THOUSAND[300:]
    for values in ((size, "999", "1000"), ("300", size, "1000"), ("300", "999", size)):
        odd = part % tuple(value.encode() for value in values)
        raw.plan = [GOOD + THOUSAND[:300], odd, GOOD + THOUSAND]
        assert get(raw.url, tmp_path, tries=3) == THOUSAND


NOTES = [
    "[]", "1", "null", '"total"', "{}", '{"total": 1000}', '{"total": 1000, "version": null}',
    '{"total": [], "version": {}}', '{"total": "1000", "version": {}}', '{"total": -1, "version": {}}',
    '{"total": 1000, "version": []}', '{"total": 1000, "version": {"ETag": 1}}', "[" * 100_000,
    '{"total": ' + "9" * 5000 + ', "version": {}}', '{"total": ' + "9" * 4000 + ', "version": {}}',
    '{"total": 1e999, "version": {}}', "\ufeff{}",
]  # fmt: skip
"""Notes of a partial file that are none."""


def test_an_odd_note_means_a_new_start(server: Server, tmp_path: Path) -> None:
    for note in NOTES:
        server.plan, server.asked = [answer(upto=300), answer()], []
        with pytest.raises(InputError):
            get(server.url, tmp_path, tries=1)
        (path,) = tmp_path.glob("partial/*.json")
        path.write_text(note)
        assert get(server.url, tmp_path) == THOUSAND
        assert server.ranges == [None, None], note


def test_a_mark_that_can_t_be_sent_back_is_not_kept(raw: RawServer, tmp_path: Path) -> None:
    raw.plan = [GOOD[:-2] + b'ETag: "a\n b"\r\n\r\n' + THOUSAND[:300], GOOD + THOUSAND]
    assert get(raw.url, tmp_path) == THOUSAND


def test_a_file_of_unsaid_length_with_a_wrong_hash_comes_anew_once(server: Server, tmp_path: Path) -> None:
    server.plan = [answer(length=False, upto=300), answer()]
    assert get(server.url, tmp_path) == THOUSAND
    assert server.ranges == [None, None]


def test_of_two_processes_that_fetch_one_file_the_second_says_so(server: Server, tmp_path: Path) -> None:
    server.content = LONG
    server.plan = [answer(upto=2 * BLOCK, then_hang=True), answer()]
    process = started(server, tmp_path)
    with pytest.raises(InputError, match=r"^another process downloads to .*\.part; wait for it and run again$"):
        get(server.url, tmp_path, LONG)
    assert kept(tmp_path) == LONG[: 2 * BLOCK]
    assert get(f"{server.url}?other", tmp_path, LONG) == LONG
    process.kill()
    process.wait()
    assert get(server.url, tmp_path, LONG) == LONG
    assert not list((tmp_path / "partial").iterdir())


def test_secrets_of_an_address_are_in_no_error_and_no_note(server: Server, tmp_path: Path) -> None:
    url = server.url.replace("http://", "http://me:secret@") + "?token=secret"
    server.plan = [answer(upto=300), refuse(404), refuse(302, Location="file:///secret"), answer()]
    for content in (THOUSAND, THOUSAND, OTHERS):
        with pytest.raises(InputError) as refusal:
            get(url, tmp_path, content, tries=1)
        assert server.url.removeprefix("http://") in str(refusal.value)
        assert "me:secret" not in str(refusal.value)
        assert "token=" not in str(refusal.value)
        assert "secret" not in "".join(note.read_text() for note in tmp_path.glob("partial/*.json"))
