"""What a user may call several revisions."""

import subprocess
from pathlib import Path

import pytest

from imgpipe.commands.comparing.revisions import files_at, matching
from imgpipe.common.errors import InputError


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository with a branch, a tag and experiments, as DVC names their refs."""
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> str:
        settings = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        return subprocess.run(["git", *settings, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet", "--initial-branch", "main")
    git("commit", "--quiet", "--allow-empty", "--message", "First")
    commit = git("rev-parse", "HEAD")
    git("tag", "base-tag")
    for name in ("base-10", "base-2", "other-1"):
        git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/{name}", commit)
    git("update-ref", "refs/exps/exec/EXEC_BASELINE", commit)


def test_a_pattern_stands_for_experiments_branches_and_tags_in_the_order_of_their_numbers() -> None:
    assert matching("base-*") == ["base-2", "base-10", "base-tag"]
    assert matching("*[nr]*") == ["main", "other-1"]


def test_commas_part_names_and_patterns_and_each_counts_once() -> None:
    assert matching("main,base-?,base-2,HEAD~1") == ["main", "base-2", "HEAD~1"]


def test_what_is_no_commit_gets_one_line() -> None:
    Path("file").write_text("a file")
    for command in ("git add file", "git -c user.name=T -c user.email=t@example.org commit -qm File", "dvc init -q"):
        subprocess.run([*command.split()], check=True)
    for name in ("HEAD^{tree}", "HEAD:file", "a" * 5000, "--all", "\ud800"):
        with pytest.raises(InputError) as refusal, files_at(name, ["file"]):
            pass
        said = str(refusal.value)
        assert " is no commit, branch, tag or finished experiment: " in said
        assert len(said) < 700
        assert "\n" not in said


def test_a_pattern_without_git_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="git can't be run: No such file or directory; install it"):
        matching("base-*")


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="'new-\\*' matches no experiment, branch or tag"):
        matching("new-*")


@pytest.mark.parametrize("names", ["", "base-1,", ",base-1"])
def test_a_name_left_out_is_refused(names: str) -> None:
    with pytest.raises(InputError, match=f"'{names}' leaves out the name of a revision"):
        matching(names)
