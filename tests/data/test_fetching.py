"""Downloads from real servers on this machine that misbehave in every way known."""

import gzip
import hashlib
import io
import json
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
from imgpipe.data.fetching import BLOCK, AddressError, HashError, Patience, fetch

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
    files = sorted((folder / "partial").iterdir())
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


def test_after_a_kill_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.content = LONG
    server.marks = {"ETag": '"long"'}
    server.plan = [answer(upto=2 * BLOCK + 100, then_hang=True), answer()]
    program = f"""
from pathlib import Path
from imgpipe.data.fetching import Patience, fetch
folder = Path({str(tmp_path)!r})
path, partial = folder / "raw/pets.tar", folder / "partial"
fetch({server.url!r}, path, partial=partial, sha256=None, patience=Patience(tries=1, timeout=600, pause=0))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT / "src", stdout=subprocess.DEVNULL)
    while sum(part.stat().st_size for part in tmp_path.glob("partial/*.part")) < 2 * BLOCK:
        assert process.poll() is None, "the download ended before it was killed"
        time.sleep(0.01)
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
