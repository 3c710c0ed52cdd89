"""What a training's checkpoints belong to."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from omegaconf import OmegaConf

from imgpipe.common.files import digest_of
from imgpipe.train.checkpoints import digests_of_inputs


@pytest.fixture
def inside(pipeline: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(pipeline.folder)
    return pipeline


def test_a_change_of_code_shows_and_compiled_python_does_not(inside: Project) -> None:
    before = digests_of_inputs("train")
    compiled = inside.folder / "src/imgpipe/train/__pycache__"
    compiled.mkdir(exist_ok=True)
    (compiled / "loop.cpython-311.pyc").write_bytes(b"compiled")
    assert digests_of_inputs("train") == before
    inside.edit("src/imgpipe/train/loop.py", "def train_step", "# one update\ndef train_step")
    after = digests_of_inputs("train")
    assert [path for path in before if before[path] != after[path]] == ["src/imgpipe/train"]


def test_what_editors_and_systems_leave_and_the_order_of_parameters_do_not_show(inside: Project) -> None:
    inside.set(train__class_weights={"name": "given", "weights": {0: 2.0, "zero": 1.0}})
    before = digests_of_inputs("train")
    code = inside.folder / "src/imgpipe/train"
    (code / ".loop.py.swp").write_bytes(b"an open editor")
    (code / ".idea").mkdir()
    (code / ".idea/workspace.xml").write_text("<project/>")
    params = inside.folder / "params.yaml"
    sections = OmegaConf.to_container(OmegaConf.load(params))
    OmegaConf.save(reversed_in_order(sections), params)
    after = digests_of_inputs("train")
    assert [name for name in before if before[name] != after[name]] == []


def reversed_in_order(value: Any) -> Any:
    """The same mapping, with the keys at every level the other way round."""
    if not isinstance(value, dict):
        return value
    return {key: reversed_in_order(inner) for key, inner in reversed(value.items())}


def test_a_hidden_file_or_folder_that_is_named_counts_with_its_content(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden"
    folder.mkdir()
    file, inside = folder / ".file", folder / "file"
    digests = set()
    for content in ("one", "two"):
        file.write_text(content)
        inside.write_text(content)
        digests |= {digest_of(file), digest_of(folder)}
    assert len(digests) == 4
