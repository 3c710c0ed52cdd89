"""A process that takes inputs one by one and is watched: what each ends in, how long it takes, what memory, what files.

It is forked from this one, which has imported what it runs: another takes its place within milliseconds when it dies.
"""

import contextlib
import faulthandler
import io
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from closure import ROOT
from fuzzing.fields import Table

from imgpipe.common.errors import exit_on_input_error

MOST_MEMORY = 1 << 30
"""Bytes that an input may take beyond what the process had before it, and the largest file that it may write."""
ADDRESSES = 2 << 30
"""Bytes of addresses that it gets beyond what it had: threads take many that they do not use."""
CHANGES = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"}
PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile"}


@dataclass(frozen=True)
class Kind:
    """Inputs of one kind, and what takes them."""

    table: Callable[[], Table]
    """Makes those that are odd in one known way each."""
    random: Callable[[Random], bytes]
    """Makes one that is odd in several ways."""
    take: Callable[[bytes, Path], None]
    """Has the real code take an input, in an empty folder; what must hold is asserted. An InputError is an answer."""
    seconds: float
    """The most that an input may take."""
    connects: bool = False
    """Whether an input may name a host; no other than this machine is reached in any case."""


@dataclass(frozen=True)
class Finding:
    """What must not be."""

    what: str
    """In a few words."""
    place: str
    """In the code; findings of one place are one."""


class _Watch:
    """Refuses changes outside of a folder, programs, foreign hosts and pickles, and remembers what was tried."""

    def __init__(self, connects: bool) -> None:
        self.connects = connects
        self.tried: list[str] = []
        self._folder: str | None = None

    @contextlib.contextmanager
    def on(self, folder: Path) -> Iterator[None]:
        self._folder = os.path.realpath(folder)
        self.tried.clear()
        try:
            yield
        finally:
            self._folder = None

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """For sys.addaudithook."""
        if self._folder is None:
            return
        if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            self._check(event, args[0])
        elif event in CHANGES:
            for path in args[:2]:
                self._check(event, path)
        elif event in PROGRAMS or event == "pickle.find_class":
            self._refuse(f"{event}{args}")
        elif event in ("socket.connect", "socket.getaddrinfo"):
            host = args[1][0] if event == "socket.connect" else args[0]
            if host not in ("127.0.0.1", b"127.0.0.1"):
                self._refuse(f"reaches for {host!r}", remembered=not self.connects)

    def _check(self, event: str, path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(path))
            if real != "/dev/null" and not f"{real}/".startswith(f"{self._folder}/"):
                self._refuse(f"{event} outside of the folder: {real}")

    def _refuse(self, what: str, *, remembered: bool = True) -> None:
        if remembered:
            self.tried.append(what)
        raise OSError(what)


class Worker:
    """A process that takes inputs of one kind, and another one after each that dies or is stopped."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory()
        self._log = Path(self._scratch.name, "log")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()
        self._scratch.cleanup()

    def finding(self, content: bytes) -> Finding | None:
        """What an input ends in that must not be; None where it is answered or refused as it should."""
        if not self._process:
            self._start()
        assert self._process
        try:
            self._connection.send_bytes(content)
            if self._connection.poll(self.kind.seconds):
                found: Finding | None = self._connection.recv()
                return found
            self._log.write_text("")
            assert self._process.pid
            os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(0.2)
            found = Finding(f"more than {self.kind.seconds:g} s", _place_in(self._log.read_text(errors="replace")))
        except (EOFError, ConnectionError):
            self._process.join()
            said = self._log.read_text(errors="replace")
            status = self._process.exitcode or 0
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            found = Finding(f"the process ended with {how}", _place_in(said) or said[:40])
        self._stop()
        return found

    def _start(self) -> None:
        processes = multiprocessing.get_context("fork")
        self._connection, others = processes.Pipe()
        self._log.write_text("")
        arguments = (self.kind, others, Path(self._scratch.name), self._log)
        self._process = processes.Process(target=_in_a_thread, args=arguments, daemon=True)
        self._process.start()
        others.close()

    def _stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


def _in_a_thread(*arguments: Any) -> None:
    """Works in a new thread: the first one would wait for OpenMP's threads, which a fork does not copy."""
    thread = threading.Thread(target=_work, args=arguments)
    thread.start()
    thread.join()


def _work(kind: Kind, connection: Connection, scratch: Path, log: Path) -> None:
    """Takes inputs for ever."""
    output = log.open("ab", buffering=0)
    for stream in (1, 2):  # of libraries that are not Python, too
        os.dup2(output.fileno(), stream)
    faulthandler.enable(output)
    faulthandler.register(signal.SIGUSR1, output, all_threads=True)
    sys.dont_write_bytecode = True
    os.environ["NO_PROXY"] = "*"
    watch = _Watch(kind.connects)
    sys.addaudithook(watch.hook)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_MEMORY, resource.RLIM_INFINITY))
    with contextlib.suppress(EOFError):  # nobody is there any more
        while True:
            content = connection.recv_bytes()
            with tempfile.TemporaryDirectory(dir=scratch) as name, contextlib.chdir(name):
                connection.send(_finding(kind, content, Path(name), watch))


def _finding(kind: Kind, content: bytes, folder: Path, watch: _Watch) -> Finding | None:
    Path("/proc/self/clear_refs").write_text("5")  # the most memory that was in use is counted from here on
    before = _memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + ADDRESSES, resource.RLIM_INFINITY))
    said = io.StringIO()
    try:
        with (
            watch.on(folder),
            contextlib.redirect_stderr(said),
            contextlib.suppress(SystemExit),
            exit_on_input_error(),
        ):
            kind.take(content, folder)
    except BaseException as error:  # whatever it is, it is no answer
        if watch.tried:
            return Finding(watch.tried[0], "")
        return Finding("".join(traceback.format_exception_only(error)).strip()[:300], _place_of(error))
    if watch.tried:
        return Finding(watch.tried[0], "")
    if (used := _memory("VmHWM") - before) > MOST_MEMORY:
        return Finding(f"{used / 2**30:.1f} GB of memory", "")
    line = said.getvalue()
    if "MemoryError" in line:
        return Finding(f"memory ran out: {line[:300]!r}", "")
    if line and not (line.startswith("error: ") and line.endswith("\n") and line[:-1].isprintable()):
        return Finding(
            f"not one printable line: {line[:300]!r}", "a line: " + " ".join(re.findall(r"(?<= )[a-z]+(?= )", line))
        )
    return None


def _memory(what: str) -> int:
    """Bytes that this process has by /proc/self/status."""
    (kilobytes,) = re.findall(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def _place_of(error: BaseException) -> str:
    """The innermost line of ours that an exception came through."""
    frames = [(Path(one.filename), one) for one in traceback.extract_tb(error.__traceback__)]
    ours = [(path, one) for path, one in frames if path.is_relative_to(ROOT) and path != Path(__file__)]
    path, frame = (ours or frames)[-1]
    return f"{type(error).__name__} at {path.relative_to(ROOT) if ours else path}:{frame.lineno} {frame.name}"


def _place_in(dump: str) -> str:
    """The innermost line of ours in what faulthandler wrote."""
    lines = re.findall(r'File "(.*)", line (\d+) in (\w+)', dump)
    return next(
        (
            f"{Path(file).relative_to(ROOT)}:{line} {name}"
            for file, line, name in lines
            if Path(file).is_relative_to(ROOT / "src") or Path(file).is_relative_to(ROOT / "stages")
        ),
        "",
    )
