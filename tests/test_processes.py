"""Training in several processes, by real Gloo groups under torchrun's real launcher."""

import re
from collections.abc import Iterator

import pytest
from conftest import Project
from safetensors.numpy import load


@pytest.fixture
def pipeline(finished: Project) -> Iterator[Project]:
    yield finished
    finished.restore()


def best_weights(project: Project) -> dict[str, float]:
    weights = load((project.folder / "models/best.safetensors").read_bytes())
    return {name: float(abs(value.astype("float64")).sum()) for name, value in weights.items()}


def test_dvc_trains_in_as_many_processes_as_runtime_says(pipeline: Project) -> None:
    alone = best_weights(pipeline)
    pipeline.set(runtime__processes=2, train__precision="fp32")
    run = pipeline.succeed("dvc", "repro", "--force", "--single-item", "train")
    assert re.search(r"training in 2 processes \(gloo\)", run.out), run.out
    assert best_weights(pipeline) == pytest.approx(alone, rel=0.05)


def test_torchrun_from_outside_is_joined(pipeline: Project) -> None:
    alone = best_weights(pipeline)
    run = pipeline.succeed("torchrun", "--nproc-per-node", "2", "-m", "stages.train")
    assert run.out.count("training in 2 processes (gloo)") == 1
    assert best_weights(pipeline) == pytest.approx(alone, rel=0.05)
