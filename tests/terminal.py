"""A Python program whose standard error is a terminal: what it shows there, and what it prints."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from closure import ROOT


def on_terminal(program: str, folder: Path) -> tuple[str, str]:
    """Run the program in a folder, with the project's library there, or else with this one.

    Returns what the terminal was sent and what went to standard output.
    """
    terminal, for_program = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=for_program,
        env={**os.environ, "PYTHONPATH": f"src{os.pathsep}{ROOT / 'src'}", "TERM": "xterm", "COLUMNS": "100"},
    ) as running:
        os.close(for_program)
        shown = b""
        while piece := _read(terminal):
            shown += piece
        assert running.stdout
        printed = running.stdout.read()
    os.close(terminal)
    return shown.decode(), printed.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux's way to say that the other side is closed
        return b""
