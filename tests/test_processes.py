"""Training in several processes, by real Gloo groups under torchrun's real launcher: the same bytes as in one."""

import pytest
from conftest import Project

TRAINED = ("models", "metrics/train")


def test_dvc_trains_in_as_many_processes_as_runtime_says(pipeline: Project) -> None:
    alone = pipeline.fingerprint(*TRAINED)
    pipeline.set(runtime__processes=2)
    run = pipeline.succeed("dvc", "repro", "--force", "--single-item", "train")
    assert run.out.count("2 processes (gloo)") == 1
    assert pipeline.fingerprint(*TRAINED) == alone


def test_torchrun_from_outside_is_joined(pipeline: Project) -> None:
    alone = pipeline.fingerprint(*TRAINED)
    run = pipeline.succeed("torchrun", "--nproc-per-node", "2", "-m", "stages.train")
    assert run.out.count("2 processes (gloo)") == 1
    assert pipeline.fingerprint(*TRAINED) == alone


@pytest.mark.parametrize(
    ("model", "dropout", "precision", "processes"),
    [("simple_cnn", 0.3, "fp32", (1, 2)), ("resnet9", 0.2, "bf16", (1, 4))],
    ids=["dropout", "BatchNorm, dropout and channels_last"],
)
def test_the_number_of_processes_changes_no_bit(
    pipeline: Project, model: str, dropout: float, precision: str, processes: tuple[int, ...]
) -> None:
    pipeline.set(
        pack__image_size=16,
        model__image_size=16,
        model__name=model,
        model__dropout=dropout,
        train__precision=precision,
        train__epochs=1,
        train__batch_size=64,
    )
    pipeline.succeed("python", "-m", "stages.pack")
    made = []
    for number in processes:
        pipeline.set(runtime__processes=number, runtime__threads=number)
        run = pipeline.succeed("python", "-m", "stages.train")
        assert ("processes (gloo)" in run.out) == (number > 1)
        made.append(pipeline.fingerprint(*TRAINED))
    assert all(outputs == made[0] for outputs in made[1:])
