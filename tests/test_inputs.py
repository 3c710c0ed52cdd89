"""What a training's checkpoints belong to."""

import pytest
from conftest import Project

from imgpipe.resuming.inputs import digests_of_inputs


@pytest.fixture
def prepared(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.here("download", "prepare", "pack")
    monkeypatch.chdir(project.folder)
    return project


def test_a_change_of_code_shows_and_compiled_python_does_not(prepared: Project) -> None:
    before = digests_of_inputs("train")
    compiled = prepared.folder / "src/imgpipe/training/__pycache__"
    compiled.mkdir(exist_ok=True)
    (compiled / "loop.cpython-311.pyc").write_bytes(b"compiled")
    assert digests_of_inputs("train") == before
    prepared.edit("src/imgpipe/training/loop.py", "def train_step", "# one update\ndef train_step")
    after = digests_of_inputs("train")
    assert [path for path in before if before[path] != after[path]] == ["src/imgpipe/training"]
