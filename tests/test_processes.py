"""Training in several processes, by real Gloo groups under torchrun's real launcher: the same bytes as in one."""

from collections.abc import Iterator

import pytest
from conftest import Project

OUTPUTS = ("models", "metrics/train")


@pytest.fixture
def pipeline(finished: Project) -> Iterator[Project]:
    yield finished
    finished.restore()


def test_dvc_trains_in_as_many_processes_as_runtime_says(pipeline: Project) -> None:
    alone = pipeline.fingerprint(*OUTPUTS)
    pipeline.set(runtime__processes=2)
    run = pipeline.succeed("dvc", "repro", "--force", "--single-item", "train")
    assert run.out.count("training in 2 processes (gloo)") == 1
    assert pipeline.fingerprint(*OUTPUTS) == alone


def test_torchrun_from_outside_is_joined(pipeline: Project) -> None:
    alone = pipeline.fingerprint(*OUTPUTS)
    run = pipeline.succeed("torchrun", "--nproc-per-node", "2", "-m", "stages.train")
    assert run.out.count("training in 2 processes (gloo)") == 1
    assert pipeline.fingerprint(*OUTPUTS) == alone


@pytest.mark.parametrize(
    ("model", "dropout", "precision"),
    [("simple_cnn", 0.3, "fp32"), ("resnet18", 0.0, "bf16")],
    ids=["dropout", "BatchNorm and channels_last"],
)
def test_the_number_of_processes_changes_no_bit(pipeline: Project, model: str, dropout: float, precision: str) -> None:
    pipeline.set(
        pack__channels=3,
        pack__image_size=16,
        model__name=model,
        model__dropout=dropout,
        train__precision=precision,
        train__epochs=1,
    )
    pipeline.succeed("python", "-m", "stages.pack")
    made = {}
    for processes in (1, 2, 4):
        pipeline.set(runtime__processes=processes, runtime__threads=processes)
        run = pipeline.succeed("python", "-m", "stages.train")
        assert ("processes (gloo)" in run.out) == (processes > 1)
        made[processes] = pipeline.fingerprint(*OUTPUTS)
    assert made[2] == made[1]
    assert made[4] == made[1]
