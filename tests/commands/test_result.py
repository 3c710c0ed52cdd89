"""``imgpipe result`` in a folder with what it reads and nothing else."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from imgpipe.commands.__main__ import app
from imgpipe.commands.causes import ROUNDS
from imgpipe.commands.last_commit import LOCK, METRICS, THERE
from imgpipe.commands.result import SUMMARY

NUMBERS = {"accuracy": 0.985185, "accuracy_ci_low": 0.962507, "accuracy_ci_high": 0.994226, "images": 1270}
SAID = "98.5 % of the 1,270 validation images are classified right (95 % interval 96.3 to 99.4 %)."
REPORT = "The report, metrics/report.html, has the test, too, by which nothing should be chosen."


def write(folder: Path, model: str = "aa", images: str = "cc", params: str = "train: {}", **moved: Any) -> None:
    """Write results: MD5 of the model and the table of images, the parameters of train, metrics of the summary."""
    prepare = f"prepare: {{outs: [{{path: data/images.csv, md5: {images}}}]}}"
    train = f"train: {{params: {{params.yaml: {{{params}}}}}, outs: [{{path: model, md5: {model}}}]}}"
    (folder / LOCK).write_text(f"stages: {{{prepare}, {train}}}\n")
    (folder / SUMMARY).parent.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(f"{{{params}}}\n")
    (folder / METRICS["val"]).write_text(json.dumps(NUMBERS))
    (folder / SUMMARY).write_text(json.dumps({"accuracy": 0.9852, "interval": ".963-.994", "loss": 0.06} | moved))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in Git; nothing is committed."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    write(tmp_path)
    return tmp_path


def commit() -> None:
    for command in ("add .", "-c user.name=T -c user.email=t@example.org commit --quiet -m All"):
        subprocess.run(["git", *command.split()], check=True)


def said() -> list[str]:
    """The lines between the accuracy and the place of the report."""
    done = CliRunner().invoke(app, ["result"])
    assert done.exit_code == 0, done.stderr
    first, *between, last = done.stdout.splitlines()
    assert (first, last) == (SAID, REPORT)
    return between


def test_before_the_first_commit_the_accuracy_and_its_interval_are_said(folder: Path) -> None:
    assert said() == ["Git's last commit has no results that this can be compared with."]


def test_what_is_committed_is_said_to_be_the_same(folder: Path) -> None:
    commit()
    assert said() == ["That and all other outputs are those of the last commit."]


def test_metrics_and_parameters_are_said_as_they_were_and_as_they_are(folder: Path) -> None:
    commit()
    write(folder, model="bb", params="train: {epochs: 3}", accuracy=0.9778, interval=".952-.990")
    assert said() == [
        "Since the last commit: accuracy 0.9852 -> 0.9778; imgpipe compare HEAD says whether that may be chance.",
        "Outputs differ from those of the last commit; the reason: other parameters (train.epochs none -> 3).",
    ]


def test_where_nothing_was_changed_the_processor_is_the_reason(folder: Path) -> None:
    commit()
    write(folder, model="bb")
    remedy = "docs/reproducing.md says on which processors that may not be"
    assert said() == [
        "The metrics of validation have not moved since the last commit.",
        f"Outputs differ from those of the last commit; the reason: train ({ROUNDS}; {remedy}).",
    ]


def test_metrics_of_other_images_are_not_compared_and_five_of_many_reasons_named(folder: Path) -> None:
    commit()
    write(folder, model="bb", images="dd", params="prepare: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1}", accuracy=0.5)
    lines = said()
    assert lines[0] == "The results of the last commit are of other images."
    assert lines[1].endswith("prepare.d none -> 1, prepare.e none -> 1 and 2 more).")


@pytest.mark.parametrize(("file", "instead"), [(LOCK, "Git's"), (SUMMARY, "Outputs")])
def test_a_merge_committed_with_both_sides_is_not_compared_with(folder: Path, file: str, instead: str) -> None:
    content = (folder / file).read_text()
    (folder / file).write_text(f"<<<<<<< HEAD\n{content}=======\n{content}>>>>>>> theirs\n")
    commit()
    write(folder, model="bb")
    assert [line.split()[0] for line in said()] == [instead]


def test_an_earlier_version_s_commit_has_no_summary_to_compare_with(folder: Path) -> None:
    (folder / SUMMARY).unlink()
    commit()
    write(folder, model="bb")
    assert [line.split()[0] for line in said()] == ["Outputs"]


@pytest.mark.parametrize("file", [METRICS["val"], LOCK])
def test_without_results_one_line_says_where_to_run_it(folder: Path, file: str) -> None:
    (folder / file).unlink()
    done = CliRunner().invoke(app, ["result"])
    assert done.exit_code == 1
    assert done.stderr == f"error: there is no {file} in {folder}; {THERE}, after dvc repro\n"


def test_parameters_that_nothing_was_made_with_yet_are_said_and_outputs_are_not_compared(folder: Path) -> None:
    """A training that was stopped leaves the results of the one before it."""
    write(folder, params="train: {seed: 0, lr: 0.10}")
    commit()
    (folder / "params.yaml").write_text("{train: {seed: 7, lr: 1e-1}, runtime: {processes: 2}}\n")
    assert said() == [
        "params.yaml is another now (train.seed 0 -> 7), and what that gives is not made yet: dvc repro makes it."
    ]
