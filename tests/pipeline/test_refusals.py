"""What the stages do with input that does not fit: one line, exit status 1, and no output touched."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import OUTPUTS, ROOT, Project, write_images

from imgpipe.common.errors import InputError

STAGES = ("download", "prepare", "pack", "train", "evaluate", "plot")


@pytest.fixture
def untouched(pipeline: Project) -> Iterator[Project]:
    """A finished pipeline, whose outputs must be the same bytes after the test, which may change anything else."""
    before = pipeline.fingerprint(*OUTPUTS)
    yield pipeline
    assert pipeline.fingerprint(*OUTPUTS) == before


def refused(project: Project, stage: str, line: str, **environment: str) -> None:
    """The stage ends with this line, and nothing before it but the count of images read, and exits with 1."""
    run = project.run("python", "-m", f"stages.{stage}", **environment)
    *before, last = run.out.splitlines()
    assert last == f"error: {line}"
    assert all(text.startswith("reading ") for text in before)
    assert run.status == 1


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_refuses_a_mistake_in_any_section(untouched: Project, stage: str) -> None:
    untouched.edit("params.yaml", "  dpi:", "  dpy:")
    refused(
        untouched,
        stage,
        "params.yaml: plot.dpy is unknown; its keys are format, dpi, examples, mistakes; did you mean dpi?",
    )


def test_params_and_code_that_fitted_are_not_checked_again_until_they_change(project: Project) -> None:
    project.edit("stages/check.py", "        check()\n", "        print('checked')\n        check()\n")

    def checks(**environment: str) -> int:
        return project.run("python", "-m", "stages.download", **environment).out.count("checked")

    assert [checks(), checks()] == [1, 0]
    project.set(plot__dpi=70)
    assert checks() == 1
    project.edit("src/imgpipe/plot/figures.py", "def roc", "# curves\ndef roc")
    assert [checks(), checks()] == [1, 0]
    assert [checks(PET_NNODES="1"), checks()] == [1, 1]
    project.set(plot__dpi="many")
    assert [checks(), checks()] == [1, 1]


def test_a_batch_larger_than_the_training_split(untouched: Project) -> None:
    untouched.set(train__batch_size=1000)
    with pytest.raises(InputError) as refusal:
        untouched.here("train")
    assert str(refusal.value) == (
        "params.yaml: train.batch_size is 1000, more than the 168 images of the training split; at most 168 fit"
    )


def test_processes_that_do_not_divide_the_micro_batches(untouched: Project) -> None:
    untouched.set(runtime__processes=3)
    refused(
        untouched,
        "train",
        "params.yaml: runtime.processes is 3, which does not divide the 4 of train.micro_batches; make it 2 or 4, with "
        "the same result",
    )


def test_processes_from_torchrun_that_do_not_divide_the_micro_batches(untouched: Project) -> None:
    """As torchrun tells the first of them."""
    refused(
        untouched,
        "train",
        "torchrun's number of processes is 3, which does not divide the 4 of train.micro_batches; make it 2 or 4, with "
        "the same result",
        TORCHELASTIC_RUN_ID="none",
        WORLD_SIZE="3",
        LOCAL_WORLD_SIZE="3",
        RANK="0",
        LOCAL_RANK="0",
    )


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_no_cuda_where_it_is_asked_for(untouched: Project, stage: str) -> None:
    untouched.set(runtime__device="cuda")
    line = "params.yaml: runtime.device is 'cuda', but torch sees no CUDA device here; use cpu or auto"
    refused(untouched, stage, line, CUDA_VISIBLE_DEVICES="")


def test_images_too_small_for_the_model_are_refused_before_any_process_is_started(untouched: Project) -> None:
    untouched.set(model__name="squeezenet1_1", runtime__processes=2)
    run = untouched.run("python", "-m", "stages.train")
    assert run.status == 1
    assert run.out.startswith(
        "error: params.yaml: model.name is 'squeezenet1_1', which does not take 1 channels of 8 x 8 pixels"
    )
    assert run.out.count("\n") == 1


def test_an_empty_image_folder(untouched: Project) -> None:
    (untouched.folder / "empty").mkdir()
    untouched.set(download__location="empty")
    refused(
        untouched,
        "download",
        "params.yaml: download.location is 'empty', which holds no images; "
        "their names end in .avif, .bmp, .gif, .heic, .heif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp",
    )


def test_a_location_that_is_not_there(untouched: Project) -> None:
    untouched.set(download__location="nowhere")
    refused(
        untouched,
        "download",
        "params.yaml: download.location is 'nowhere', which is no folder; name the folder that holds the images",
    )


def test_a_file_that_is_no_archive(untouched: Project) -> None:
    untouched.set(download__source="archive", download__location="README.md")
    refused(untouched, "download", "README.md is neither a zip nor a tar archive, as far as its content tells")


def test_an_archive_with_another_sha256(untouched: Project) -> None:
    untouched.set(download__sha256="00ff" * 16)
    run = untouched.run("python", "-m", "stages.download")
    assert run.status == 1
    assert run.out.startswith(f"error: params.yaml: download.sha256 is '{'00ff' * 16}', but images.tar has ")
    assert run.out.count("\n") == 1


def test_a_class_with_too_few_images_to_split(project: Project) -> None:
    write_images(project.folder / "images", count=40, classes=4)
    for number, digit in enumerate(sorted((project.folder / "images" / "3").iterdir())):
        if number >= 2:
            digit.unlink()
    project.succeed("python", "-m", "stages.download")
    refused(
        project,
        "prepare",
        "class '3' has 2 images to train on and split; it needs 3 at least: "
        "add some, or merge it into another class (params.yaml: prepare.class_map)",
    )
    assert not (project.folder / "data" / "prepared").exists()
    assert not (project.folder / "data" / "images.csv").exists()


def test_a_failed_run_of_dvc_is_undone_by_git_and_dvc_checkout(finished: Project) -> None:
    before = finished.fingerprint(*OUTPUTS)
    finished.set(train__epochs=0)
    run = finished.run("dvc", "repro")
    assert "error: params.yaml: train.epochs is 0; it must be a whole number at least 1\n" in run.out
    assert "Traceback" not in run.out
    assert run.status != 0
    finished.succeed("git", "checkout", "--quiet", "params.yaml")
    finished.succeed("dvc", "checkout", "--quiet")
    assert finished.fingerprint(*OUTPUTS) == before


def test_paths_need_no_more_than_the_current_folder(tmp_path: Path, bare_project: Project) -> None:
    """Run elsewhere, a stage says where it belongs."""
    found = f"{bare_project.folder}{os.pathsep}{bare_project.folder / 'src'}"
    run = Project(tmp_path).run("python", "-m", "stages.plot", PYTHONPATH=found)
    assert run.out == f"error: params.yaml is not in {tmp_path}; run this from the project's top folder\n"
    assert run.status == 1


def test_a_stage_refuses_the_library_of_another_folder(bare_project: Project) -> None:
    """As an installed copy would be: DVC would keep its results under this folder's code."""
    run = bare_project.run("python", "-m", "stages.plot", PYTHONPATH=str(ROOT / "src"))
    assert run.out == (
        f"error: Python found imgpipe in {ROOT / 'src'}, which is not {bare_project.folder / 'src'}; run stages in the "
        "project's top folder, as dvc.yaml does: env PYTHONPATH=src python -m stages.NAME\n"
    )
    assert run.status == 1


def test_too_many_rejected_images_are_all_listed(project: Project) -> None:
    for i in range(4):
        (project.folder / "images/0" / f"broken{i}.png").write_bytes(b"not an image")
    project.succeed("python", "-m", "stages.download")
    refused(
        project,
        "prepare",
        "4 of 244 images are rejected, more than params.yaml: prepare.max_rejected of 0.01 allows; data/rejected.csv "
        "names all, such as '0/broken0.png': its content is no image, or its start is damaged",
    )
    assert (project.folder / "data/rejected.csv").read_text().count("broken") == 4
    project.set(prepare__max_rejected=0.1)
    run = project.succeed("python", "-m", "stages.prepare")
    assert "4 images rejected: data/rejected.csv says why" in run.out
