"""Experiments as the README has them, with real ``dvc exp``."""

import json
import time

import pytest
from conftest import Project, copy_of

SUMMARY = "metrics/val/summary.json"


@pytest.fixture
def pipeline(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_of(finished_project, tmp_path_factory.mktemp("experiments") / "project")


def test_an_experiment_with_another_batch_size_reruns_train_and_what_follows_and_its_metrics_are_shown(
    pipeline: Project,
) -> None:
    """The test's to whoever asks for them by name."""
    run = pipeline.succeed("dvc", "exp", "run", "--name", "small-batches", "--set-param", "train.batch_size=16")
    assert run.stages_run == ["train", "evaluate", "plot"]
    assert "params.yaml" in pipeline.succeed("git", "status", "--porcelain").out
    changes = json.loads(pipeline.succeed("dvc", "metrics", "diff", "--json", "main", "small-batches").out)
    assert set(changes) == {SUMMARY}
    assert "loss" in changes[SUMMARY]
    file = "metrics/test/metrics.json"
    losses = [json.loads(pipeline.succeed("git", "show", f"main:{file}").out)["loss"]]
    losses.append(json.loads((pipeline.folder / file).read_text())["loss"])
    shown = json.loads(pipeline.succeed("dvc", "metrics", "show", "--json", file).out)
    assert shown[""]["data"][file]["data"]["loss"] == losses[1]
    named = pipeline.succeed("dvc", "metrics", "diff", "--json", "main", "small-batches", "--targets", file)
    assert [json.loads(named.out)[file]["loss"][side] for side in ("old", "new")] == losses


def test_queued_experiments_all_finish_by_the_code_of_their_own_copies_and_stand_side_by_side(
    pipeline: Project,
) -> None:
    """The workspace's library is broken after queueing; the experiments' copies of it are not."""
    values = ("train.epochs=1", "train.optimizer.sgd.lr=1e-05", "evaluate.flips=true,false")
    options = [part for value in values for part in ("--set-param", value)]
    pipeline.succeed("dvc", "exp", "run", "--queue", *options, "evaluate")
    scoring = "src/imgpipe/evaluate/scoring.py"
    pipeline.edit(scoring, "def score(", "raise RuntimeError('the wrong copy')\n\n\ndef score(")
    pipeline.succeed("dvc", "queue", "start", "--jobs", "1")
    patient_until = time.monotonic() + 480
    while any("queue-worker" in command for command in pipeline.processes().values()):
        assert time.monotonic() < patient_until
        time.sleep(0.2)
    status = pipeline.succeed("dvc", "queue", "status").out
    assert status.count("Success") == 2, status
    pipeline.succeed("git", "checkout", "--quiet", scoring)
    shown = json.loads(pipeline.succeed("dvc", "exp", "show", "--json").out)
    rows = [experiment["revs"][0]["data"] for branch in shown for experiment in branch["experiments"] or []]
    assert {row["params"]["params.yaml"]["data"]["evaluate"]["flips"] for row in rows} == {True, False}
    losses = {row["metrics"][SUMMARY]["data"]["loss"] for row in rows}
    assert len(losses) == 2
    show = ("dvc", "exp", "show", "--only-changed", "--no-pager", "--drop", "Created|State|Executor|.*/")
    table = pipeline.succeed(*show, COLUMNS="160").out.splitlines()
    columns = ["accuracy", "interval", "balanced", "f1", "loss", *(value.partition("=")[0] for value in values)]
    assert table[1].split() == ["Experiment", *columns]
    name = next(experiment["name"] for branch in shown for experiment in branch["experiments"] or [])
    verdict = pipeline.succeed("python", "-m", "imgpipe.commands", "compare", "main", name).out
    assert f"{name} is " in verdict
