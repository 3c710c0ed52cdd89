"""``imgpipe recipe``, in a folder that is a project as far as it needs one."""

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from imgpipe.commands.__main__ import app

RECIPE = """# Cats, in one line
# and more

train: {epochs: 3, optimizer: {name: adam, adam: {beta1: 0.8}}}
prepare: {class_map: {cat: [1, 2], other: rest}}
"""

PARAMS = """# mine
train:
  epochs: 20            # many
  optimizer:
    name: sgd
    sgd: {momentum: 0.5}
    adam: {beta1: 0.9}
prepare:
  class_map: null
download: {location: data/cats.zip}
"""

AFTERWARDS = """# mine
train:
  epochs: 3             # many
  optimizer:
    name: adam
    sgd: {momentum: 0.5}
    adam: {beta1: 0.8}
prepare:
  class_map:
    cat:
    - 1
    - 2
    other: rest
download: {location: data/cats.zip}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, all committed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/cats.yaml").write_text(RECIPE)
    (tmp_path / "recipes/dogs-tiny.yaml").write_text("# Dogs\n")
    (tmp_path / "params.yaml").write_text(PARAMS)
    for command in ("init --quiet", "add .", "-c user.name=T -c user.email=t@example.org commit --quiet -m All"):
        subprocess.run(["git", *command.split()], check=True)
    return tmp_path


def recipe(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["recipe", *arguments])


def test_without_a_name_recipes_are_listed_with_their_first_lines(folder: Path) -> None:
    assert recipe().stdout == "cats       Cats, in one line\ndogs-tiny  Dogs\n"


def test_a_recipe_s_values_come_into_params_yaml_whose_comments_stay_and_what_changes_is_said(folder: Path) -> None:
    done = recipe("cats")
    assert done.stdout.splitlines() == [
        "train.epochs: 20 -> 3",
        "train.optimizer.name: sgd -> adam",
        "train.optimizer.adam.beta1: 0.9 -> 0.8",
        'prepare.class_map: null -> {"cat": [1, 2], "other": "rest"}',
    ]
    assert done.stderr == "data/cats.zip is not there: docs/recipes.md says which images belong there\n"
    assert (done.exit_code, (folder / "params.yaml").read_text()) == (0, AFTERWARDS)


def test_changes_that_are_not_committed_are_not_lost_unless_that_is_asked_for(folder: Path) -> None:
    mine = PARAMS.replace("20", "30")
    (folder / "params.yaml").write_text(mine)
    refused = recipe("cats")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "error: params.yaml has changes that are not committed and would be lost; commit them or give --force\n"
    )
    assert (folder / "params.yaml").read_text() == mine
    assert recipe("cats", "--force").exit_code == 0
    assert (folder / "params.yaml").read_text() == AFTERWARDS


def test_a_file_that_git_does_not_have_is_not_lost_either(folder: Path) -> None:
    subprocess.run(["git", "rm", "--quiet", "--cached", "params.yaml"], cwd=folder, check=True)
    assert recipe("cats").exit_code == 1
    assert (folder / "params.yaml").read_text() == PARAMS


def test_without_a_git_program_nothing_is_committed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    done = recipe("cats")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: params.yaml has changes that are not committed")
    assert (folder / "params.yaml").read_text() == PARAMS
    assert recipe("cats", "--force").exit_code == 0


def test_a_name_that_is_none_is_told_with_the_nearest(folder: Path) -> None:
    done = recipe("cat")
    assert (done.exit_code, done.stderr) == (
        1,
        "error: 'cat' is no recipe; there are cats, dogs-tiny; did you mean cats?\n",
    )


def test_elsewhere_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = recipe("cats")
    assert done.exit_code == 1
    assert done.stderr == f"error: there are no recipes in {tmp_path}; run this in the project's top folder\n"


def test_a_recipe_with_a_key_that_params_yaml_lacks_is_refused_and_nothing_is_written(folder: Path) -> None:
    (folder / "recipes/new.yaml").write_text("# New\ntrain: {epochs: 3, rate: {of: 1}}\n")
    done = recipe("new")
    assert (done.exit_code, done.stderr) == (
        1,
        "error: params.yaml: train.rate.of is missing; imgpipe upgrade adds it\n",
    )
    assert (folder / "params.yaml").read_text() == PARAMS


ODD_RECIPES = {
    "a value for a section": "download: 3",
    "a list for a section": "train: [1]",
    "a section for a value": "train: {epochs: {a: 1}}",
    "a list": "[1]",
    "text": "text",
    "binary": "\x00",
    "an alias": "train: &a {epochs: 3}\nprepare: *a",
    "a number of many digits": "train: {epochs: 0x" + "f" * 10_000 + "}",
}


@pytest.mark.parametrize("content", ODD_RECIPES.values(), ids=ODD_RECIPES)
def test_an_odd_recipe_gets_one_line_and_params_stay(folder: Path, content: str) -> None:
    (folder / "recipes/odd.yaml").write_text(content)
    said = recipe("odd")
    assert said.exit_code == 1
    assert said.stderr.startswith("error: ")
    assert said.stderr.count("\n") == 1
    assert (folder / "params.yaml").read_text() == PARAMS


def test_what_is_no_file_is_no_recipe_and_a_first_line_commands_nothing(folder: Path) -> None:
    (folder / "recipes/folder.yaml").mkdir()
    (folder / "recipes/link.yaml").symlink_to("nowhere")
    os.mkfifo(folder / "recipes/pipe.yaml")
    (folder / "recipes/odd.yaml").write_bytes(b"# \xff\x1b[2J" + b"a" * 1000)
    listed = recipe().stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["cats", "dogs-tiny", "odd"]
    assert listed[2].startswith("odd        \ufffd\\x1b[2Jaaa")
    assert len(listed[2]) < 300
    assert recipe("folder").stderr.startswith("error: 'folder' is no recipe; ")


def test_a_params_file_without_download_takes_a_recipe(folder: Path) -> None:
    edited = PARAMS.replace("download: {location: data/cats.zip}\n", "")
    (folder / "params.yaml").write_text(edited)
    said = recipe("cats", "--force")
    assert said.exit_code == 0, said.stderr
    assert "train.epochs: 20 -> 3" in said.stdout
