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


def test_queued_experiments_all_finish_and_stand_side_by_side(pipeline: Project) -> None:
    values = ("train.epochs=1", "train.batch_size=16", "train.optimizer.sgd.lr=0.03,1e-05")
    options = [part for value in values for part in ("--set-param", value)]
    pipeline.succeed("dvc", "exp", "run", "--queue", *options, "evaluate")
    pipeline.succeed("dvc", "queue", "start", "--jobs", "1")
    for _ in range(240):
        status = pipeline.succeed("dvc", "queue", "status").out
        if "Queued" not in status and "Running" not in status:
            break
        time.sleep(2)
    assert status.count("Success") == 2, status
    shown = json.loads(pipeline.succeed("dvc", "exp", "show", "--json").out)
    rows = [experiment["revs"][0]["data"] for branch in shown for experiment in branch["experiments"] or []]
    rates = {row["params"]["params.yaml"]["data"]["train"]["optimizer"]["sgd"]["lr"] for row in rows}
    assert rates == {0.03, 1e-05}
    losses = {row["metrics"][SUMMARY]["data"]["loss"] for row in rows}
    assert len(losses) == 2
    show = ("dvc", "exp", "show", "--only-changed", "--no-pager", "--drop", "Created|State|Executor|.*/")
    table = pipeline.succeed(*show, COLUMNS="160").out.splitlines()
    columns = ["accuracy", "interval", "balanced", "f1", "loss", *(value.partition("=")[0] for value in values)]
    assert table[1].split() == ["Experiment", *columns]
    name = next(experiment["name"] for branch in shown for experiment in branch["experiments"] or [])
    verdict = pipeline.succeed("python", "-m", "imgpipe.commands", "compare", "main", name).out
    assert f"{name} is " in verdict


def test_a_queued_experiment_runs_the_code_of_its_own_copy(pipeline: Project) -> None:
    """The workspace's library is broken after queueing; the experiment's copy of it is not."""
    pipeline.succeed("dvc", "exp", "run", "--queue", "--name", "apart", "--set-param", "plot.dpi=60")
    pipeline.edit("src/imgpipe/plot/figures.py", "def roc(", "raise RuntimeError('the wrong copy')\n\n\ndef roc(")
    run = pipeline.succeed("dvc", "exp", "run", "--run-all")
    assert run.stages_run == ["plot"]
