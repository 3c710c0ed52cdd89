"""Run a stage as a command: params.yaml and packages are checked first, and a user's error is one line."""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import typer

from imgpipe.common import packages
from imgpipe.common.errors import InputError, exit_on_input_error
from imgpipe.common.files import digest_of, digest_of_text, write_text
from imgpipe.common.safe_text import printable

T = TypeVar("T")

CHECKED = Path(".dvc/tmp/params-checked")


def run(stage: Callable[[], None]) -> None:
    """Make the command line of a stage and run it: exit status 1 for what a user can put right, 2 for wrong usage.

    The whole of params.yaml is checked by a process of its own, before any work. That check knows every stage's
    parameters, and can only refuse: its code is no dependency of a stage, so a new plot setting does not retrain. The
    installed packages are compared with packages.yaml each time.
    """

    @functools.wraps(stage)
    def command() -> None:
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        sys.stderr = cast(TextIO, _Lasting(sys.stderr))
        handler = _Lines()
        handler.setFormatter(_Printable())
        logging.basicConfig(level=logging.INFO if first else logging.ERROR, handlers=[handler])
        with exit_on_input_error():
            _check_code()
            if first:
                _check_params()
                packages.check_installed()
            stage()

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    app()


class _Lasting:
    """Standard error that outlives its terminal.

    Where it can't be written, since a connection was dropped, what is written from then on is lost, and the work goes
    on: it is about to be told to end, and must save itself before.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._tried(lambda: self._stream.write(text), len(text))

    def flush(self) -> None:
        self._tried(self._stream.flush, None)

    def _tried(self, action: Callable[[], T], otherwise: T) -> T:
        try:
            return action()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Lines(logging.StreamHandler[TextIO]):
    """Writes to what is standard error at the moment: a bar that is shown puts lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Printable(logging.Formatter):
    """Writes messages alone, without what commands a terminal: names of others are in them.

    Each is one line, which on a terminal is broken between words.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        text = printable(record.message)
        if not sys.stderr.isatty():
            return text
        width = shutil.get_terminal_size().columns
        return textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _check_code() -> None:
    """Raise InputError where this is another folder's code: DVC would take its results for this one's."""
    here = Path("src", *Path(__file__).parts[-3:])
    if here.is_file() and not here.samefile(__file__):
        raise InputError(
            f"Python found imgpipe in {Path(__file__).parents[2]}, which is not {Path('src').resolve()}; run stages "
            "in the project's top folder, as dvc.yaml does: env PYTHONPATH=src python -m stages.NAME"
        )


def _check_params() -> None:
    """End this process with exit status 1 where params.yaml does not fit.

    A stage that finds the file, all code and torchrun's settings as the last stage did need not start that process
    again.
    """
    inputs = {name: digest_of(Path(name)) for name in ("params.yaml", "stages", "src") if os.access(name, os.R_OK)}
    inputs |= {name: value for name, value in os.environ.items() if name.startswith("PET_")}
    digest = digest_of_text(json.dumps(inputs, sort_keys=True))
    if CHECKED.is_file() and CHECKED.read_text(encoding="utf-8") == digest:
        return
    if subprocess.run([sys.executable, "-m", "stages.check"], check=False).returncode:
        raise typer.Exit(1)
    if Path(".dvc").is_dir():
        write_text(CHECKED, digest)
