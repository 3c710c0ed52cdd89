"""Dockerfile and workflows: what they name is there. That they run is seen where Docker and GitHub are."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from closure import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def jobs(workflow: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return found


def test_the_files_that_the_image_copies_are_in_git_and_what_it_makes_is_a_target() -> None:
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, flags=re.MULTILINE) for name in line.split()]
    assert {"Makefile", "requirements.lock", "."} <= set(copied)
    assert set(copied) - {"."} <= set(tracked())
    assert re.findall(r"&& make (\w+)", DOCKERFILE) == ["setup"]
    assert 'CMD ["make", "repro"]' in DOCKERFILE
    assert {"setup", "repro"} <= TARGETS


def test_the_image_has_the_programs_that_readme_asks_for_and_certificates_to_install_over() -> None:
    installed = re.search(r"apt-get install --yes --no-install-recommends ([a-z0-9 -]+?) +&&", DOCKERFILE)
    assert installed
    assert installed[1].split() == ["ca-certificates", "git", "make", "python3-venv"]
    assert "on Linux with git, make and Python 3.11 or newer." in (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_that_git_has_stays_outside_the_image() -> None:
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n") if line[:1] not in "#"
    ]
    assert ".dvc/config.local" in patterns
    assert [
        name for name in tracked() for pattern in patterns if fnmatch(name, pattern) or name.startswith(f"{pattern}/")
    ] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_commits_and_what_steps_make_is_a_target(workflow: Path) -> None:
    steps = [step for job in jobs(workflow).values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    ran = "\n".join(step["run"] for step in steps if "run" in step)
    assert set(re.findall(r"\bmake ([a-z]+)", ran)) <= TARGETS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_that_may_write_takes_no_code_of_a_pull_request_and_runs_for_no_fork(workflow: Path) -> None:
    assert "pull_request_target" not in workflow.read_text(encoding="utf-8")
    given = yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"]
    for job in jobs(workflow).values():
        if "write" in job.get("permissions", given).values():
            assert job["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
            used = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
            assert used == ["actions/download-artifact"]


def test_the_pictures_that_are_commented_are_figures_of_the_report() -> None:
    text = (ROOT / ".github/workflows/compare.yml").read_text(encoding="utf-8")
    named = {name for group in re.findall(r"\{([a-z,]+)\}\.png", text) for name in group.split(",")}
    assert named == {"confusion", "curves", "mistakes"}
    assert all(f'"{name}"' in (ROOT / "stages/plot.py").read_text(encoding="utf-8") for name in named)
