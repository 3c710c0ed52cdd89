"""Asking a probe, which may crash or hang: in the end there is an answer or a reason."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from imgpipe.commands.probes import Facts

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
"""Starts a probe as the train stage starts its processes."""


class ProbeError(Exception):
    """A probe that gave no answer. The text is one line: why."""


def ask(probe: str, *, seconds: float, launcher: Sequence[str] = ()) -> Facts:
    """What a probe found; of several processes, the first to answer.

    launcher: a module with its arguments that starts the probe's module.
    Raises ProbeError where there is no answer, after so many seconds at the latest.
    """
    ours = str(Path(__file__).resolve().parents[2])
    others = os.environ.get("PYTHONPATH")
    process = subprocess.Popen(
        [sys.executable, "-m", *launcher, "imgpipe.commands.probes", probe],
        env={**os.environ, "PYTHONPATH": f"{ours}{os.pathsep}{others}" if others else ours},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
        start_new_session=True,  # so that the processes that it starts can be ended with it
    )
    try:
        out, problems = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer within {seconds:g} seconds") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode < 0:
        raise ProbeError(f"it was ended by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        raise ProbeError(_reason(problems))
    answer = next((line for line in out.splitlines() if line.startswith("{")), None)
    if answer is None:
        raise ProbeError("it said nothing")
    facts: Facts = json.loads(answer)
    return facts


def _reason(problems: str) -> str:
    """The line that says most: a probe's own, or the last."""
    lines = [line.strip() for line in problems.splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (said or lines[-1:] or ["it said nothing"])[0]
