"""What a Python without the packages says."""

import subprocess
import sys

import pytest
from closure import ROOT

LACKING = f"error: {sys.executable} lacks the packages that imgpipe needs; run make setup, "


@pytest.mark.parametrize(
    ("module", "path", "said"),
    [
        ("imgpipe.commands", "src", LACKING),
        ("stages.train", "src", LACKING),
        ("stages.check", "", "error: Python does not find imgpipe; run stages as dvc.yaml does, with PYTHONPATH=src"),
    ],
)
def test_a_python_without_packages_says_in_one_line_what_to_do(module: str, path: str, said: str) -> None:
    bare = [sys.executable, "-S", "-m", module]  # -S: without site-packages
    run = subprocess.run(bare, cwd=ROOT, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith(said)
    assert run.stderr.count("\n") == 1
    assert not run.stdout
