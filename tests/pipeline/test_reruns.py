"""Which change reruns what: real ``dvc repro`` over a finished pipeline."""

import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Project

ALL = ["download", "prepare", "pack", "train", "evaluate", "plot"]


def code(file: str, old: str, new: str) -> Callable[[Project], None]:
    return lambda project: project.edit(file, old, new)


def value(**values: object) -> Callable[[Project], None]:
    return lambda project: project.set(**values)


def compiled(project: Project) -> None:
    for package in ("stages", "src/imgpipe", "src/imgpipe/train"):
        cache = project.folder / package / "__pycache__"
        cache.mkdir(exist_ok=True)
        (cache / "files.cpython-311.pyc").write_bytes(b"compiled")


def edited(project: Project) -> None:
    for name in (".loop.py.swp", "loop.py~", "loop.py.orig"):
        (project.folder / "src/imgpipe/train" / name).write_text("what an editor keeps\n")


def code_before_training(project: Project) -> None:
    project.edit("src/imgpipe/download/sources.py", "SOURCES = ", "# by name\nSOURCES = ")
    project.edit("src/imgpipe/prepare/splits.py", "FAR_OFF = ", "# far\nFAR_OFF = ")
    project.edit("src/imgpipe/pack/pack.py", "RUN = ", "# images\nRUN = ")


def other_image(project: Project) -> None:
    image = next((project.folder / "images" / "0").iterdir())
    image.write_bytes((project.folder / "images" / "1" / "0001.png").read_bytes())


NO_CHANGES: dict[str, Callable[[Project], None]] = {
    "runtime": value(runtime__processes=2, runtime__threads=2),
    "a comment in params.yaml": code("params.yaml", "# Every value", "# Each and every value"),
    "a number written another way": code("params.yaml", "lr: 0.1", "lr: 1e-1"),
    "README": code("README.md", "imgpipe", "ours"),
    "compiled Python": compiled,
    "what an editor leaves": edited,
    "the check of params.yaml": code("stages/check.py", "def check", "# checked at every start\ndef check"),
}
CHANGES: dict[str, tuple[Callable[[Project], None], str, list[str], set[str]]] = {
    "an image in its place": (other_image, "pack", ["download", "prepare", "pack"], {"train", "evaluate", "plot"}),
    "download, prepare and pack: code": (
        code_before_training,
        "train",
        ["download", "prepare", "pack"],
        {"evaluate"},
    ),
    "prepare.format": (value(prepare__format="tree"), "train", ["prepare", "pack"], {"evaluate", "plot"}),
    "train: code": (
        code("src/imgpipe/train/loop.py", "def train_step", "# one update\ndef train_step"),
        "train",
        ["train"],
        {"evaluate"},
    ),
    "evaluate: code": (
        code("src/imgpipe/evaluate/scoring.py", "def score", "# numbers\ndef score"),
        "plot",
        ["evaluate"],
        set(),
    ),
    "evaluate.weights": (value(evaluate__weights="last"), "evaluate", ["evaluate"], {"plot"}),
    "a parameter that changes nothing but what is said of it": (
        value(prepare__max_rejected=0.02),
        "train",
        ["prepare"],
        {"evaluate", "plot"},
    ),
}
"""Changes, a stage up to which the pipeline runs, the stages that run, and those of which something is another then."""
CHANGES_AT_FIRST: dict[str, tuple[Callable[[Project], None], set[str]]] = {
    "pack.image_size": (value(pack__image_size=9), {"pack", "evaluate", "plot"}),
    "model.dropout": (value(model__dropout=0.5), {"train", "evaluate", "plot"}),
    "plot: code": (code("src/imgpipe/plot/figures.py", "def roc", "# curves\ndef roc"), {"plot"}),
    "plot: the report's template": (code("src/imgpipe/plot/report.html.jinja", "<main>", "<main >"), {"plot"}),
    "plot.dpi": (value(plot__dpi=70), {"plot"}),
    "the packages' versions": (code("requirements.lock", "jinja2==", "jinja2==3."), {"plot"}),
}
"""Changes, and the stages of which something is another before anything has run again."""


def changed(project: Project) -> set[str]:
    """The stages of which DVC says that something is another."""
    return set(json.loads(project.succeed("dvc", "status", "--json").out))


@pytest.mark.parametrize(("change", "to", "stages", "then"), CHANGES.values(), ids=CHANGES)
def test_a_change_reruns(
    pipeline: Project, change: Callable[[Project], None], to: str, stages: list[str], then: set[str]
) -> None:
    change(pipeline)
    assert pipeline.succeed("dvc", "repro", to).stages_run == stages
    assert changed(pipeline) == then


def test_what_is_no_change_reruns_nothing(pipeline: Project) -> None:
    for change in NO_CHANGES.values():
        change(pipeline)
    assert pipeline.succeed("dvc", "repro").stages_run == []


@pytest.mark.parametrize(("change", "stages"), CHANGES_AT_FIRST.values(), ids=CHANGES_AT_FIRST)
def test_a_change_concerns_these_stages(pipeline: Project, change: Callable[[Project], None], stages: set[str]) -> None:
    change(pipeline)
    assert changed(pipeline) == stages


def test_another_version_of_a_package_changes_the_stages_in_whose_bits_it_shows(pipeline: Project) -> None:
    pipeline.edit("requirements.lock", "\nruff==", "\nruff==99.")
    assert changed(pipeline) == {"plot"}
    pipeline.edit("packages.yaml", "\ntorch: ", "\ntorch: 99.")
    assert changed(pipeline) == {"train", "evaluate", "plot"}


def test_a_stage_refuses_other_packages_than_packages_yaml_says_also_where_all_else_was_checked(
    pipeline: Project,
) -> None:
    assert pipeline.succeed("python", "-m", "stages.download").out.count("error") == 0
    installed = version("torch").partition("+")[0]
    pipeline.edit("packages.yaml", f"\ntorch: {installed}", "\ntorch: 99.0.0")
    for stage in ALL:
        run = pipeline.run("python", "-m", f"stages.{stage}")
        assert (run.status, run.out) == (
            1,
            f"error: torch {installed} (not 99.0.0) is installed, but results depend on the versions in packages.yaml; "
            "make setup installs those, or write the installed one into packages.yaml: what depends on it runs again\n",
        )
    pipeline.edit("packages.yaml", "torch: 99.0.0", "torch: 99.0")
    refusal = "error: packages.yaml: torch is 99.0, which YAML takes for no text; write it in quotes\n"
    assert pipeline.run("python", "-m", "stages.download").out == refusal


def test_a_package_that_is_not_installed_is_not_asked_for(pipeline: Project) -> None:
    pipeline.edit("packages.yaml", "\ntimm: ", "\nnever-installed: ")
    pipeline.succeed("python", "-m", "stages.download")


def archive_of_the_folder(project: Project) -> None:
    shutil.copy(project.folder / "data" / "raw" / "images.tar", project.folder / "images.tar")
    project.set(download__source="archive", download__location="images.tar")


def test_a_local_archive_that_is_touched_is_not_read_again_and_one_that_changed_is(pipeline: Project) -> None:
    archive_of_the_folder(pipeline)
    assert pipeline.succeed("dvc", "repro", "train").stages_run == ["download"]
    (pipeline.folder / "images.tar").touch()
    assert pipeline.succeed("dvc", "repro", "train").stages_run == []
    with tarfile.open(pipeline.folder / "images.tar", "a") as archive:
        archive.add(pipeline.folder / "images/0/0000.png", "0/again.png")
    run = pipeline.succeed("dvc", "repro", "pack")
    assert run.stages_run == ["download", "prepare"]  # the copy is dropped, and data/duplicates.csv says so
    assert "0/again.png" in (pipeline.folder / "data/duplicates.csv").read_text(encoding="utf-8")


def test_without_the_source_a_finished_pipeline_goes_on_from_dvc_s_own_copies(pipeline: Project) -> None:
    shutil.rmtree(pipeline.folder / "images")
    pipeline.set(plot__dpi=60)
    assert pipeline.succeed("dvc", "repro", "--allow-missing").stages_run == ["plot"]


@pytest.mark.parametrize("stage", ["check", "download", "prepare", "pack", "plot"])
def test_a_stage_that_needs_no_torch_runs_without_it(pipeline: Project, tmp_path: Path, stage: str) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch is imported')")
    pipeline.succeed("python", "-m", f"stages.{stage}", PYTHONPATH=f"{tmp_path}{os.pathsep}src")


def test_make_repro_ends_with_the_result_and_imports_no_torch_for_it(pipeline: Project, tmp_path: Path) -> None:
    """After ``make setup``, which would install what runs the tests here already."""
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch is imported')")
    here = {"PYTHONPATH": f"{tmp_path}{os.pathsep}src"}
    run = pipeline.succeed("make", "--no-print-directory", "--old-file=setup", f"VENV={sys.prefix}", "repro", **here)
    assert run.stages_run == []
    accuracy, same, report = run.out.splitlines()[-3:]
    assert re.match(r"\d+\.\d % of the 36 validation images are classified right \(95 % interval \d", accuracy)
    assert same == "That and all other outputs are those of the last commit."
    assert "metrics/report.html" in report


def test_packed_images_and_a_model_that_are_deleted_are_restored_without_a_run(pipeline: Project) -> None:
    before = pipeline.fingerprint("data", "models")
    (pipeline.folder / "data/packed/train/images.npy").unlink()
    (pipeline.folder / "models/best.safetensors").unlink()
    run = pipeline.succeed("dvc", "repro")
    assert (run.stages_run, run.stages_restored) == ([], ["pack", "train"])
    assert pipeline.fingerprint("data", "models") == before


def test_an_earlier_value_again_restores_its_model_without_a_run(pipeline: Project) -> None:
    before = pipeline.fingerprint("models")
    pipeline.set(train__optimizer__sgd__lr=0.02)
    assert pipeline.succeed("dvc", "repro", "train").stages_run == ["train"]
    assert pipeline.fingerprint("models") != before
    pipeline.set(train__optimizer__sgd__lr=0.1)
    run = pipeline.succeed("dvc", "repro")
    assert "train" in run.stages_restored
    assert "train" not in run.stages_run
    assert pipeline.fingerprint("models") == before


def test_verify_says_identical_or_how_far_each_metric_moved(pipeline: Project) -> None:
    run = pipeline.succeed("python", "-m", "imgpipe.commands", "verify")
    assert run.out == "identical: all 28 outputs are those committed\n"
    pipeline.edit(
        "dvc.lock",
        "- path: models/best.safetensors\n      hash: md5\n      md5: ",
        "- path: models/best.safetensors\n      hash: md5\n      md5: 0",
    )
    pipeline.edit("metrics/test/metrics.json", '"images": 36', '"images": 34')
    run = pipeline.run("python", "-m", "imgpipe.commands", "verify")
    assert run.status == 1
    assert run.out.startswith("not identical: models/best.safetensors\n")
    assert "\n  images               36 -> 34  (-2.000000)\n" in run.out
