"""What a Python without the packages says, and which packages make installs."""

import shutil
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    ("installed", "asked", "makes"),
    [
        ("cpu", [], False),
        ("locked", [], False),
        ("cpu", ["TORCH=locked"], True),
        ("locked", ["TORCH=cpu"], True),
        (None, [], True),
    ],
)
def test_packages_stay_those_that_were_installed_until_others_are_asked_for(
    installed: str | None, asked: list[str], makes: bool, tmp_path: Path
) -> None:
    for name in ("Makefile", "requirements.lock", "requirements-uv.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    if installed:
        (tmp_path / f".venv/installed-{installed}").touch()
    run = subprocess.run(
        ["make", "--dry-run", "repro", *asked], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ("-m venv --clear" in run.stdout) == makes
