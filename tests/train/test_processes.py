"""Training in several processes, by real Gloo groups under torchrun's real launcher: the same bytes as in one."""

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


def test_four_processes_end_in_the_bits_of_one_with_batchnorm_and_in_fp32(pipeline: Project) -> None:
    pipeline.set(
        pack__image_size=16,
        model__image_size=16,
        model__name="resnet9_narrow",
        train__precision="fp32",
        train__epochs=1,
        train__batch_size=64,
    )
    pipeline.here("pack")
    made = []
    for number in (1, 4):
        pipeline.set(runtime__processes=number, runtime__threads=number)
        run = pipeline.succeed("python", "-m", "stages.train")
        assert ("processes (gloo)" in run.out) == (number > 1)
        made.append(pipeline.fingerprint(*TRAINED))
    assert made[0] == made[1]
