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
        note_installed(tmp_path, installed)
    assert would_install(tmp_path, *asked) == makes


def note_installed(folder: Path, which: str) -> None:
    locks = (folder / "requirements.lock").read_bytes() + (folder / "requirements-uv.lock").read_bytes()
    (folder / f".venv/installed-{which}").write_bytes(locks)


def would_install(folder: Path, *asked: str) -> bool:
    command = ["make", "--dry-run", "repro", *asked]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return "-m venv --clear" in run.stdout


def test_packages_stay_until_the_lock_is_another_and_not_until_it_is_touched(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "requirements-uv.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    note_installed(tmp_path, "locked")
    (tmp_path / "requirements.lock").touch()
    assert not would_install(tmp_path)
    with (tmp_path / "requirements.lock").open("a") as lock:
        lock.write("another==1\n")
    assert would_install(tmp_path)


def test_an_environment_that_is_a_link_is_not_made_anew(tmp_path: Path) -> None:
    """It is another clone's, which may be using it."""
    for name in ("Makefile", "requirements.lock", "requirements-uv.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".venv").symlink_to("theirs")
    run = subprocess.run(["make", "setup"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode
    assert run.stderr.startswith("error: .venv is a link, and what is there is not what the lock says; remove the link")
    assert list((tmp_path / "theirs").iterdir()) == []
