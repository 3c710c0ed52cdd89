"""``imgpipe upgrade``: older files of parameters, and a project that merges a newer version."""

import shutil
from pathlib import Path

import pytest
from closure import ROOT
from conftest import OUTPUTS, Project, copy_of
from typer.testing import CliRunner, Result

from imgpipe.commands.__main__ import app
from imgpipe.commands.params_file import values_of
from imgpipe.commands.params_text import with_keys_of, without_key
from imgpipe.common.errors import InputError
from imgpipe.common.params import load
from stages.check import check

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")

OLDER = """# mine
train:

  optimizer:            # found by a search
    name: adam
    lr: 0.003           # the best of ten
    beta1: 0.9
    nesterov: true
  schedule: {name: step, warmup_epochs: 2, gamma: 0.3}
  augment: {padding: 2}
  depth: 7
prepare:
    seed: 3
    near_distance: 2    # bits
"""
NEWER = """# as it comes

train:
  epochs: 20            # of them
  optimizer:
    name: sgd           # or adam
    sgd: {lr: 0.1, nesterov: false}
    adam: {lr: 0.001, beta1: 0.8}
  schedule:
    name: cosine
    cosine: {warmup_epochs: 1}
    step: {warmup_epochs: 1, step_epochs: [7, 9], gamma: 0.1}
  augment:
    crop:
      padded: {padding: 1}
  weights: {}           # {cat: 2.0}
                        # or none

prepare:
  folds: null           # or from 2
  seed: 0

plot:
  dpi: 150              # dots
"""
UPGRADED = """# mine
train:

  epochs: 20            # of them
  optimizer:            # found by a search
    name: adam
    sgd: {lr: 0.1, nesterov: false}
    adam: {lr: 0.003, beta1: 0.9}
    nesterov: true
  schedule: {name: step, cosine: {warmup_epochs: 1}, step: {warmup_epochs: 2, step_epochs: [7, 9], gamma: 0.3}}
  augment: {crop: {padded: {padding: 2}}}
  weights: {}           # {cat: 2.0}
                        # or none
  depth: 7
prepare:
    folds: null           # or from 2
    seed: 3

plot:
  dpi: 150              # dots
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project as far as upgrade needs one."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def upgrade(mine: str, shipped: str = SHIPPED) -> tuple[Result, str]:
    """How upgrade ended, and params.yaml after it."""
    Path("params.yaml").write_text(mine)
    Path("recipes/digits.yaml").write_text(shipped)
    return CliRunner().invoke(app, ["upgrade"], catch_exceptions=False), Path("params.yaml").read_text()


def test_keys_are_added_renamed_and_removed_each_in_a_line_and_what_the_user_wrote_stays(folder: Path) -> None:
    done, text = upgrade(OLDER, NEWER)
    assert done.stdout.splitlines() == [
        "new      train.epochs: 20",
        "new      train.optimizer.sgd.lr: 0.1",
        "new      train.optimizer.sgd.nesterov: false",
        "new      train.schedule.cosine.warmup_epochs: 1",
        "new      train.schedule.step.step_epochs: [7, 9]",
        "new      train.weights: {}",
        "new      prepare.folds: null",
        "new      plot.dpi: 150",
        "renamed  train.optimizer.lr is train.optimizer.adam.lr now, and stays 0.003",
        "renamed  train.optimizer.beta1 is train.optimizer.adam.beta1 now, and stays 0.9",
        "unknown  train.optimizer.nesterov: true; it stays, and is refused until you remove it",
        "renamed  train.schedule.warmup_epochs is train.schedule.step.warmup_epochs now, and stays 2",
        "renamed  train.schedule.gamma is train.schedule.step.gamma now, and stays 0.3",
        "renamed  train.augment.padding is train.augment.crop.padded.padding now, and stays 2",
        "unknown  train.depth: 7; it stays, and is refused until you remove it",
        "removed  prepare.near_distance: 2; prepare.near_correlation takes its place, and measures something else",
        "",
        "params.yaml is written; git diff params.yaml shows what changed. make repro checks it and runs what it must.",
    ]
    assert (done.exit_code, text) == (0, UPGRADED)


def test_every_third_key_that_a_file_lacks_comes_back_as_it_was_with_its_comment() -> None:
    text = SHIPPED
    for key in [key for key, _ in values_of(load(ROOT / "params.yaml"))][::3]:
        text = without_key(text, key)
    assert len(text) < 0.8 * len(SHIPPED)
    assert with_keys_of(text, SHIPPED) == SHIPPED


def test_a_file_of_this_version_stays_and_so_does_one_with_a_key_too_many(folder: Path) -> None:
    done, text = upgrade(SHIPPED)
    assert (done.stdout, text) == ("params.yaml has every key of this version.\n", SHIPPED)
    done, text = upgrade(f"{SHIPPED}mine: 1\n")
    assert done.stdout.splitlines()[1:] == ["params.yaml stays as it was."]
    assert text == f"{SHIPPED}mine: 1\n"


@pytest.mark.parametrize(
    ("older", "line"),
    [
        (
            {"  precision: fp32 ": "  precision: bf16 "},
            "native; portable, as it comes, is refused with train.precision bf16",
        ),
        ({"  compile: false": "  compile: true"}, "native; portable, as it comes, is refused with train.compile true"),
        ({}, "portable"),
    ],
    ids=["bf16", "compiled", "neither"],
)
def test_kernels_are_those_that_the_file_s_precision_takes(folder: Path, older: dict[str, str], line: str) -> None:
    text = without_key(SHIPPED, "train.kernels")
    for old, new in older.items():
        text = text.replace(old, new)
    done, _ = upgrade(text)
    assert done.stdout.splitlines()[0] == f"new      train.kernels: {line}"
    check()


def test_a_conflict_of_git_s_merge_is_refused_with_what_to_do(folder: Path) -> None:
    text = "a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> template/main\n"
    done, after = upgrade(text)
    assert (done.exit_code, done.stderr) == (
        1,
        "error: params.yaml has a conflict of Git's merge in line 2; 'git checkout HEAD -- params.yaml' takes yours "
        "back, and imgpipe upgrade then adds what is new\n",
    )
    assert after == text


def test_elsewhere_upgrade_says_where_to_go(folder: Path) -> None:
    done = CliRunner().invoke(app, ["upgrade"])
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: there are no params.yaml and recipes/digits.yaml in {folder}; run this in the project's top folder\n"
    )


def test_a_project_merges_a_newer_version_keeps_its_own_values_and_results_and_runs_what_changed(
    bare_project: Project, finished_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/upgrading.md says it. The older version is today's without ``plot.mistakes``."""
    template = copy_of(bare_project, tmp_path / "template")
    newer = {name: (template.folder / name).read_text() for name in ("params.yaml", "recipes/digits.yaml")}
    for name, text in newer.items():
        (template.folder / name).write_text(without_key(text, "plot.mistakes"))
    (template.folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    template.commit("The older version")

    tmp_path.joinpath("mine").mkdir()
    mine = Project(tmp_path / "mine/project")
    Project(tmp_path).succeed("git", "clone", "--quiet", "--origin", "template", str(template.folder), str(mine.folder))
    mine.succeed("git", "config", "user.name", "Tester")
    mine.succeed("git", "config", "user.email", "tester@example.org")
    mine.edit("params.yaml", "examples: 30 ", "examples: 12 ")
    for name in (*OUTPUTS, ".dvc/cache", "images"):
        shutil.copytree(finished_project.folder / name, mine.folder / name, dirs_exist_ok=True, symlinks=True)
    shutil.copy(finished_project.folder / "dvc.lock", mine.folder)
    mine.commit("My results")
    results = mine.fingerprint("metrics")

    for name, text in newer.items():
        (template.folder / name).write_text(text)
    (template.folder / "dvc.lock").write_text("schema: '2.0'\nstages:\n  theirs: {cmd: 'true'}\n")
    (template.folder / "metrics/val").mkdir(parents=True, exist_ok=True)
    (template.folder / "metrics/val/metrics.json").write_text("{}\n")
    template.commit("The newer version")

    mine.succeed("git", "fetch", "template")
    merged = mine.run("git", "merge", "--no-commit", "template/main")
    assert "CONFLICT (content): Merge conflict in dvc.lock" in merged.out
    mine.succeed("git", "checkout", "HEAD", "--", "params.yaml", "dvc.lock", "metrics")
    assert mine.fingerprint("metrics") == results
    monkeypatch.chdir(mine.folder)
    with pytest.raises(InputError, match=r"plot\.mistakes is missing; .* imgpipe upgrade adds it"):
        check()
    assert CliRunner().invoke(app, ["upgrade"]).stdout.startswith("new      plot.mistakes: 24\n")
    assert load(Path("params.yaml"))["plot"] == {"format": "svg", "dpi": 150, "examples": 12, "mistakes": 24}
    check()
    assert mine.succeed("dvc", "repro", "--dry").stages_run == ["plot"]
    mine.commit("The newer version")
    assert mine.succeed("git", "log", "--format=%s", "--merges").out == "The newer version\n"


@pytest.mark.usefixtures("folder")
def test_a_value_that_is_refused_now_becomes_the_one_that_comes() -> None:
    done, text = upgrade(SHIPPED.replace("location: data/source", "location: null"))
    assert "changed  download.location: data/source; null is refused now\n" in done.stdout
    assert "\n  location: data/source " in text
