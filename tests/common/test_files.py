import errno
import os
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from closure import ROOT

from imgpipe.common.errors import exit_on_input_error
from imgpipe.common.files import (
    read_table,
    replacing,
    replacing_folder,
    table_text,
    takes_what_comes,
    write_table,
    write_text,
)


@pytest.mark.parametrize("cell", ["Icon\r", "a\nb", "a\r\nb", 'a "b", c', "", "\u00e9"])
def test_what_is_written_is_read(cell: str, tmp_path: Path) -> None:
    write_table(tmp_path / "x.csv", ["file", "label"], [{"file": cell, "label": "a"}, {"file": "b", "label": cell}])
    assert read_table(tmp_path / "x.csv") == [{"file": cell, "label": "a"}, {"file": "b", "label": cell}]


def test_a_table_is_written_while_its_rows_are_made(tmp_path: Path) -> None:
    tracemalloc.start()
    write_table(tmp_path / "x.csv", ["file"], ({"file": f"{i:0100}"} for i in range(10_000)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "x.csv").stat().st_size > 1_000_000 > 5 * most


def test_lines_end_as_unix_s() -> None:
    assert table_text(["a", "b"], [{"a": 1, "b": 0.1}, {"a": "x y", "b": None}]) == "a,b\n1,0.1\nx y,\n"


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """A pipe by name, and what was read from it once it was written."""
    path, read = tmp_path / "pipe", list[bytes]()
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    yield path, read
    reader.join(timeout=20)


def test_a_pipe_stays_and_what_is_written_goes_through_it(fifo: tuple[Path, list[bytes]]) -> None:
    path, read = fifo
    write_text(path, "text\n" * 50_000)
    assert stat.S_ISFIFO(path.stat().st_mode)
    for _ in range(200):
        if not read:
            time.sleep(0.05)
    assert read == [b"text\n" * 50_000]


def test_a_name_that_is_too_long_is_no_device() -> None:
    assert not takes_what_comes("a" * 10_000)
    assert takes_what_comes("/dev/null")


def test_a_device_stays_and_a_full_one_is_named(tmp_path: Path) -> None:
    """By a link, so that a mistake would replace the link and not the device."""
    for device in ("null", "full"):
        link = tmp_path / device
        link.symlink_to(f"/dev/{device}")
        if device == "null":
            write_text(link, "text")
        else:
            with pytest.raises(OSError, match=f"No space left on device: '{link}'"):
                write_text(link, "text")
        assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "null"]


KILLED = """
import os, signal, sys, time
from pathlib import Path
from imgpipe.common.files import replacing, replacing_folder

with replacing(Path("file")) as draft, replacing_folder(Path("folder")) as folder:
    draft.write_text("half")
    (folder / "half").write_text("half")
    print(os.getpid(), flush=True)
    sys.stdin.readline()
"""


def test_drafts_of_a_killed_run_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        number = int(run.stdout.readline())
        drafts = {f".file.{number}.draft", f".folder.{number}.draft"}
        (tmp_path / ".file.99999999.draft").write_text("of a process that is long gone")
        write_text(tmp_path / "file", "whole")
        with replacing_folder(tmp_path / "folder") as folder:
            (folder / "whole").write_text("whole")
        assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"} | drafts
        run.kill()
    write_text(tmp_path / "file", "again")
    with replacing_folder(tmp_path / "folder"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_file_is_written_into_a_folder_that_is_being_written(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "folder") as draft:
        write_text(draft / "file", "text")
    assert (tmp_path / "folder" / "file").read_text() == "text"


FAILURES = {
    errno.ENOSPC: "No space left on device; make room",
    errno.EFBIG: "File too large; make room, or see ulimit -f",
    errno.EROFS: "Read-only file system; make it writable",
    errno.EACCES: "Permission denied; make it readable and writable",
    errno.EMFILE: "Too many open files; see ulimit -n",
}


@pytest.mark.parametrize(("number", "said"), FAILURES.items())
def test_a_failing_machine_gets_one_line_with_the_remedy(
    number: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_input_error(), replacing(tmp_path / "file\x1b[2J"):
        raise OSError(number, os.strerror(number))
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: '{tmp_path}/file\\x1b[2J' can't be read or written: {said}\n"
    assert not list(tmp_path.iterdir())


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(FileNotFoundError), exit_on_input_error():
        Path("nowhere").read_bytes()


@pytest.mark.parametrize("arguments", [["--help"], ["recipe", "--help"], ["recipe"]], ids=" ".join)
def test_a_full_standard_output_gets_one_line(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "imgpipe.commands", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, check=False)
    assert run.returncode == 1
    assert run.stderr == b"error: standard output can't be read or written: No space left on device; make room\n"
