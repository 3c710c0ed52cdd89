"""``imgpipe verify`` in a folder with what it reads and nothing else."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from imgpipe.commands.__main__ import app
from imgpipe.commands.verify import LOCK, METRICS


def write(folder: Path, md5: str, metrics: dict[str, float | None]) -> None:
    (folder / LOCK).write_text(f"stages: {{train: {{outs: [{{path: model, md5: {md5}}}]}}}}\n")
    for file in METRICS:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(metrics))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, all committed."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "aa", {"accuracy": 0.5, "lost": 0.25, "found": None, "never": None})
    for command in ("init --quiet", "add .", "-c user.name=T -c user.email=t@example.org commit --quiet -m All"):
        subprocess.run(["git", *command.split()], check=True)
    return tmp_path


def verify() -> Result:
    return CliRunner().invoke(app, ["verify"])


def test_what_is_committed_is_identical_to_itself(folder: Path) -> None:
    done = verify()
    assert (done.exit_code, done.stdout) == (0, "identical: all 1 outputs are those committed\n")


def test_a_difference_is_said_only_of_numbers(folder: Path) -> None:
    write(folder, "bb", {"accuracy": 0.75, "lost": None, "found": 0.5, "never": None, "more": 1})
    done = verify()
    assert done.exit_code == 1
    moved = [
        "  accuracy             0.5 -> 0.75  (+0.250000)",
        "  lost                 0.25 -> None",
        "  found                None -> 0.5",
        "  never                None -> None",
        "  more                 None -> 1  (new)",
    ]
    headed = [line for file in METRICS for line in (f"{file}:", *moved)]
    assert done.stdout.splitlines()[:-1] == ["not identical: model", *headed]


@pytest.mark.parametrize("file", [LOCK, *METRICS])
def test_a_file_that_is_not_there_is_one_line(folder: Path, file: str) -> None:
    write(folder, "bb", {})
    (folder / file).unlink()
    done = verify()
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: there is no {file} in {folder}; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("file", [LOCK, *METRICS])
def test_a_file_that_is_not_committed_is_one_line(folder: Path, file: str) -> None:
    subprocess.run(["git", "rm", "--quiet", "--cached", file], check=True)
    subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "Less"], check=True)
    write(folder, "bb", {})
    done = verify()
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: Git has no {file} in its last commit here; ")
    assert done.stderr.count("\n") == 1


def test_without_a_git_program_nothing_is_committed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    done = verify()
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: Git has no {LOCK} in its last commit here; ")
