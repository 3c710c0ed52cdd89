"""``imgpipe verify`` in a folder with what it reads and nothing else."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from imgpipe.commands.__main__ import app
from imgpipe.commands.causes import ROUNDS, causes
from imgpipe.commands.last_commit import LOCK, METRICS


def write(folder: Path, md5: str, metrics: dict[str, float | None]) -> None:
    (folder / LOCK).write_text(f"stages: {{train: {{outs: [{{path: model, md5: {md5}}}]}}}}\n")
    for file in METRICS.values():
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
    headed = [line for file in METRICS.values() for line in (f"{file}:", *moved)]
    why = f"why: train: {ROUNDS}; docs/reproducing.md says on which processors that may not be"
    assert done.stdout.splitlines()[:-1] == ["not identical: model", why, *headed]


def test_a_dvc_lock_that_would_fill_memory_gets_one_line(folder: Path) -> None:
    bomb = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'])}]" for i in range(9))
    (folder / LOCK).write_text(f"{bomb}\nstages: {{}}\n")
    done = verify()
    assert done.exit_code == 1
    assert done.stderr.startswith("error: dvc.lock: line 2 has the alias *a0; write the value itself; ")


def stage(deps: dict[str, str], outs: dict[str, str], sections: dict[str, Any], versions: dict[str, str]) -> Any:
    """What a dvc.lock says of a stage."""
    entries = [[{"path": path, "md5": md5} for path, md5 in some.items()] for some in (deps, outs)]
    return {"deps": entries[0], "outs": entries[1], "params": {"params.yaml": sections, "packages.yaml": versions}}


LOCKED = {
    "download": stage({"images": "1", "src/imgpipe/download": "2"}, {"data/raw": "3"}, {}, {"pillow": "13.0.0"}),
    "train": stage(
        {"data/raw/images.tar": "3", "src/imgpipe/train": "4"},
        {"model": "5"},
        {"train": {"seed": 0, "optimizer": {"lr": 0.1}, "kernels": "native"}},
        {"torch": "2.15.0"},
    ),
    "plot": stage({"model": "5", "requirements.lock": "6"}, {"report": "7"}, {"train": {"seed": 0}}, {}),
}


def rerun(*changes: str) -> dict[str, Any]:
    """LOCKED as it is after a run in which this changed: "train.deps.src/imgpipe/train" and the like."""
    lock = copy.deepcopy(LOCKED)
    for change in changes:
        name, kind, what = change.split(".", 2)
        for entry in lock[name][kind]:
            entry["md5"] += "x" if entry["path"] == what else ""
    return lock


DATA = ("download.outs.data/raw", "train.deps.data/raw/images.tar", "train.outs.model", "plot.deps.model")


def test_the_cause_is_what_no_stage_makes_and_not_what_follows_from_it() -> None:
    assert causes(LOCKED, rerun("download.deps.images", *DATA)) == {"other data": ["images"]}
    assert causes(LOCKED, rerun(*DATA)) == {"other data": ["data/raw"]}
    assert causes(LOCKED, rerun("train.deps.src/imgpipe/train", "train.outs.model")) == {
        "other code": ["src/imgpipe/train"]
    }
    assert causes(LOCKED, rerun("plot.deps.requirements.lock", "plot.outs.report")) == {
        "other packages": ["requirements.lock"]
    }


def test_parameters_and_packages_are_said_with_both_values_once() -> None:
    after = rerun("train.outs.model", "plot.deps.model", "plot.outs.report")
    after["train"]["params"]["params.yaml"]["train"] |= {"seed": 1, "optimizer": {"lr": 0.1, "momentum": None}}
    after["plot"]["params"]["params.yaml"]["train"]["seed"] = 1
    after["train"]["params"]["packages.yaml"]["torch"] = "2.16.0"
    assert causes(LOCKED, after) == {
        "other parameters": ["train.seed 0 -> 1", "train.optimizer.momentum none -> null"],
        "other packages": ["torch 2.15.0 was committed, 2.16.0 is here"],
    }


def test_an_address_is_said_without_its_password_and_a_number_written_another_way_is_no_other() -> None:
    before, after = (rerun() for _ in range(2))
    before["plot"]["params"]["params.yaml"] |= {"download": {"url": None}, "plot": {"dpi": 1}}
    after["plot"]["params"]["params.yaml"] |= {"download": {"url": "https://me:secret@a.org/b"}, "plot": {"dpi": 1.0}}
    after["plot"]["outs"][0]["md5"] = "8"
    assert causes(before, after) == {"other parameters": ["download.url null -> https://a.org/b"]}


def test_what_changed_and_changed_no_output_is_no_cause() -> None:
    native = f"{ROUNDS}; train.kernels is native, with which another kind of processor does"
    assert causes(LOCKED, rerun("train.outs.model", "plot.deps.requirements.lock")) == {"train": [native]}


@pytest.mark.parametrize("file", [LOCK, *METRICS.values()])
def test_a_file_that_is_not_there_is_one_line(folder: Path, file: str) -> None:
    write(folder, "bb", {})
    (folder / file).unlink()
    done = verify()
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: there is no {file} in {folder}; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("file", [LOCK, *METRICS.values()])
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
