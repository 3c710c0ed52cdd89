"""``imgpipe compare`` on single models, of experiments that real DVC ran."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compare_command import as_json, compare, one_line_error
from conftest import OUTPUTS, ROOT, Project, copy_of


@pytest.fixture(scope="module")
def compared(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished pipeline and two experiments: ``untrained`` and, of another split, ``other-split``."""
    project = copy_of(finished_project, tmp_path_factory.mktemp("compared") / "project")
    before = project.fingerprint(*OUTPUTS)
    for name, changes in (("untrained", {"train__optimizer__sgd__lr": 1e-08}), ("other-split", {"prepare__seed": 1})):
        project.set(train__epochs=1, **changes)
        project.here("prepare", "pack", "train", "evaluate")
        project.succeed("dvc", "exp", "save", "--name", name)
        project.restore(before)
    return project


@pytest.fixture
def project(compared: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(compared.folder)
    return compared


@pytest.fixture
def without_cache(project: Project, tmp_path: Path) -> Iterator[None]:
    shutil.move(project.folder / ".dvc/cache", tmp_path / "cache")
    yield
    shutil.move(tmp_path / "cache", project.folder / ".dvc/cache")


def candidate(*arguments: str) -> dict[str, Any]:
    (one,) = as_json(*arguments)["candidates"]
    assert isinstance(one, dict)
    return one


@pytest.mark.parametrize("arguments", [("main",), ("main", "HEAD"), ("workspace", "main")])
def test_a_run_against_itself_has_no_changes(project: Project, arguments: tuple[str, ...]) -> None:
    one = candidate(*arguments)
    assert one["verdict"] == "not distinguishable"
    assert (one["changed"], one["parameters"]) == ([], {})
    assert (one["p_value"], one["models"]["predictions_differ"]) == (1, 0)


@pytest.mark.parametrize(("split", "options"), [("val", ()), ("test", ("--test",))])
def test_metrics_are_those_that_evaluate_wrote(project: Project, split: str, options: tuple[str, ...]) -> None:
    one = candidate("main", "untrained", *options)
    file = f"metrics/{split}/metrics.json"
    diff = project.succeed("dvc", "metrics", "diff", "--all", "--json", "main", "untrained", "--targets", file)
    written = json.loads(diff.out)[file]
    for name, metric in one["models"]["metrics"].items():
        assert metric["a"] == pytest.approx(written[name]["old"], abs=1e-6), name
        assert metric["b"] == pytest.approx(written[name]["new"], abs=1e-6), name


def test_an_experiment_by_its_name(project: Project) -> None:
    one = candidate("main", "untrained")
    assert one["verdict"] == "worse"
    assert len(one["changed"]) == one["models"]["only_a_right"] + one["models"]["only_b_right"]
    assert list(one["parameters"]) == ["train.epochs", "train.optimizer.sgd.lr"]
    assert candidate("untrained", "main")["verdict"] == "better"


def test_a_branch_a_tag_and_a_commit_are_the_revision_they_name(project: Project) -> None:
    project.succeed("dvc", "exp", "branch", "untrained", "as-branch")
    project.succeed("git", "tag", "as-tag", "as-branch")
    commit = project.succeed("git", "rev-parse", "as-branch").out.strip()
    reports = [as_json("main", name) for name in ("untrained", "as-branch", "as-tag", commit[:10])]
    project.succeed("git", "tag", "--delete", "as-tag")
    project.succeed("git", "branch", "--delete", "--force", "as-branch")
    assert {report["sets"][1]["runs"][0]["commit"] for report in reports} == {commit}
    assert all(r["candidates"][0]["changed"] == reports[0]["candidates"][0]["changed"] for r in reports)


def test_the_terminal_is_told_in_plain_words(project: Project) -> None:
    result = compare("main", "untrained")
    assert result.exit_code == 0
    *_, sentence = result.stdout.splitlines()
    assert sentence.startswith("The model untrained is worse than the model main in accuracy (-")
    assert sentence.endswith("That says nothing of their recipes, which takes several runs of each.")
    assert "Right in main only, the 10 of " in result.stdout
    assert result.stdout == compare("main", "untrained").stdout
    assert "The model workspace is not distinguishable from the model main" in compare("main").stdout


def test_the_account_of_the_test_split_knows_the_models_that_were_tested_on_it(project: Project) -> None:
    """The commit of the results and the experiment untrained are of this split; other-split is of another."""
    looks = as_json("main", "untrained", "--test")["test_split_looks"]
    assert looks == {"models": 2, "experiments": 1, "commits": 1, "unknown": 0}
    assert "so far, these among them: 2 (in 1 experiment and 1 commit)." in (
        compare("main", "untrained", "--test").stdout
    )
    assert as_json("main", "untrained")["test_split_looks"] is None
    assert as_json("other-split", "other-split", "--test")["test_split_looks"]["models"] == 1


def test_markdown_has_a_table_with_as_many_cells_in_each_row(project: Project) -> None:
    blocks = compare("main", "untrained", "--md").stdout.split("\n\n")
    assert blocks[0].startswith("**The model untrained is worse than the model main in accuracy ")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in blocks[2].splitlines()]
    names = ["accuracy (judged by)", "balanced_accuracy", "f1_macro", "loss (lower is better)"]
    assert [row[0] for row in rows] == ["", "---", *names]
    assert {len(row) for row in rows} == {5}


def test_fail_if_worse_has_an_exit_status_of_its_own(project: Project) -> None:
    assert compare("main", "untrained", "--fail-if-worse").exit_code == 3
    assert compare("untrained", "main", "--fail-if-worse").exit_code == 0
    assert compare("main", "main", "--fail-if-worse", "--md").exit_code == 0
    assert compare("main", "nonsense", "--fail-if-worse").exit_code == 1


def test_another_split_has_other_images(project: Project) -> None:
    error = one_line_error("main", "other-split")
    assert error.startswith("'main' and 'other-split' were tested on different images (")


def test_what_is_not_there_is_said_in_one_line(project: Project) -> None:
    assert one_line_error("main", "nonsense").startswith(
        "'nonsense' is no commit, branch, tag or finished experiment: unknown Git revision 'nonsense'"
    )
    assert (
        one_line_error("main", "main", "--json", "--md")
        == "--json and --md are two forms of the same: give one of them"
    )


def test_a_revision_before_the_first_run_is_refused(project: Project) -> None:
    """HEAD~1 has the pipeline without any results, and the commit made here not even a pipeline."""
    error = one_line_error("main", "HEAD~1")
    assert error.startswith("'HEAD~1': data/images.csv is in neither DVC's cache nor its remote (")
    tree = project.succeed("git", "hash-object", "-t", "tree", "-w", "/dev/null").out.strip()
    empty = project.succeed("git", "commit-tree", "-m", "Empty", tree).out.strip()
    error = one_line_error("main", empty)
    assert error == f"the pipeline of '{empty}' makes no data/images.csv: run its parameters with the present code"


def test_a_missing_cache_is_one_line_that_says_how_to_fill_it(project: Project, without_cache: None) -> None:
    assert one_line_error("main", "untrained").startswith(
        "'main': data/images.csv is in neither DVC's cache nor its remote ("
    )
    assert "`dvc exp apply untrained`" in one_line_error("workspace", "untrained")
    assert "`dvc pull`" in one_line_error("workspace", "untrained")


def test_a_workspace_without_results_says_how_to_get_them(pipeline: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pipeline.folder)
    (pipeline.folder / "metrics/val/predictions.csv").unlink()
    error = one_line_error("main")
    assert error == "the workspace has no metrics/val/predictions.csv: `dvc pull` gets it, `dvc repro` makes it"


def test_outside_of_a_project_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert one_line_error("main").endswith("is in no DVC project: go to the folder of the pipeline")


def test_from_a_folder_of_the_project_in_a_process_of_its_own(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    program = "import os; os.chdir('data'); from imgpipe.commands.__main__ import app; app()"
    run = finished.run("python", "-c", program, "compare", "main", PYTHONPATH=str(ROOT / "src"))
    assert (run.status, run.out) == (0, compare("main").stdout)
