"""``imgpipe predict``: the test's answers for the same images, whatever users name, and one line for what fails."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Project, copy_of, kernels_and_threads_as_they_were
from PIL import Image
from samples import noise
from terminal import on_terminal
from typer.testing import CliRunner

import imgpipe
from imgpipe.commands.__main__ import app
from imgpipe.common import progress
from imgpipe.common.files import read_table
from imgpipe.model.classifier import load_classifier, save_classifier
from imgpipe.plot import galleries

MODEL = "models/classifier.safetensors"


@dataclass(frozen=True)
class Said:
    """How a run of the command ended."""

    status: int
    out: str
    err: str

    @property
    def table(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.out)))


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    with kernels_and_threads_as_they_were():
        yield


def predict(*arguments: object, given: bytes = b"") -> Said:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)], input=given, catch_exceptions=False)
    return Said(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def elaborate(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project with other images packed, another crop, mirror images, and a temperature."""
    project = copy_of(finished, tmp_path_factory.mktemp("elaborate") / "project")
    shutil.rmtree(project.folder / "data/packed")
    project.set(
        pack__image_size=13,
        pack__channels=3,
        pack__encoding="jpeg",
        pack__jpeg_quality=70,
        model__image_size=9,
        model__crop_fraction=0.8,
        evaluate__flips=True,
        evaluate__temperature_scaling=True,
    )
    project.here("pack", "train", "evaluate")
    return project


def unpacked_test(project: Project, folder: Path) -> None:
    """The test images as files, ``test/<class>/<file>`` as in predictions.csv."""
    with tarfile.open(project.folder / "data/prepared/test.tar") as tar:
        tar.extractall(folder / "test", filter="data")


@pytest.fixture
def place(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, with the model and the test images and nothing else of the project."""
    (tmp_path / "models").mkdir()
    shutil.copy(finished.folder / MODEL, tmp_path / MODEL)
    unpacked_test(finished, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("fit", "accuracy"), [("crop", 0.5), ("pad", 1.0), ("squash", 1.0)])
def test_what_is_at_the_edge_of_a_wide_image_is_seen_where_the_whole_is_fitted(
    fit: str, accuracy: float, project: Project, tmp_path: Path
) -> None:
    """Two classes that differ in the last 16 of 48 columns. The middle 16 are the same in all: half are right.

    And predict gives every test image the class and the confidence that the test found.
    """
    middle = np.asarray(noise(99, (16, 16)))
    for name, level in (("dark", 60), ("light", 200)):
        for i in range(40):
            edges = np.asarray(noise(i, (16, 16))), np.full_like(middle, level)
            (project.folder / "wide" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.hstack([edges[0], middle, edges[1]])).save(project.folder / "wide" / name / f"{i}.png")
    project.set(download__source="folder", download__location="wide", model__fit=fit, train__epochs=6)
    project.set(train__batch_size=8, train__augment__crop__padded__padding=0)
    project.here("download", "prepare", "pack", "train", "evaluate")
    results = project.folder / "metrics/test"
    assert json.loads((results / "metrics.json").read_text())["accuracy"] == accuracy
    unpacked_test(project, tmp_path)
    tested = read_table(results / "predictions.csv")
    listed = "".join(f"{tmp_path / row['file']}\n" for row in tested).encode()
    said = predict("-", "--format", "csv", "--model", project.folder / MODEL, given=listed)
    assert [(row["predicted"], row["confidence"]) for row in said.table] == [
        (row["predicted"], row["confidence"]) for row in tested
    ]


@pytest.mark.parametrize("which", ["finished", "elaborate"])
def test_every_test_image_gets_the_class_and_the_confidence_that_the_test_found(
    which: str, request: pytest.FixtureRequest, place: Path
) -> None:
    """To the last of six decimals: the same pixels, network, mirror images and temperature."""
    project: Project = request.getfixturevalue(which)
    results = project.folder / "metrics/test"
    tested = read_table(results / "predictions.csv")
    listed = "".join(f"{row['file']}\n" for row in tested).encode()
    said = predict("-", "--format", "csv", "--model", project.folder / MODEL, given=listed)
    assert said.status == 0, said.err
    assert said.table == [{key: row[key] for key in ("file", "predicted", "confidence")} for row in tested]
    assert len(said.table) == 36

    every = predict("test", "--format", "json", "--top", 4, "--model", project.folder / MODEL, "--batch-size", 5)
    probabilities = np.load(results / "probabilities.npy")
    numbers = {row["file"]: i for i, row in enumerate(tested)}
    classes = [row["class"] for row in read_table(results / "classes.csv")]
    for one in json.loads(every.out):
        of_class = {answer["class"]: answer["confidence"] for answer in one["top"]}
        assert [of_class[name] for name in classes] == pytest.approx(probabilities[numbers.pop(one["file"])], abs=2e-6)
        assert list(of_class.values()) == sorted(of_class.values(), reverse=True)
    assert not numbers


@pytest.mark.parametrize("which", ["finished", "elaborate"])
def test_the_sets_of_the_test_images_hold_the_true_class_as_often_as_the_test_says(
    which: str, request: pytest.FixtureRequest, place: Path
) -> None:
    """And in CSV, in JSON and in a program they are the same, of the classes that the test found likely enough."""
    project: Project = request.getfixturevalue(which)
    results = project.folder / "metrics/test"
    tested, metrics = read_table(results / "predictions.csv"), json.loads((results / "metrics.json").read_text())
    asked = ("--coverage", 0.9, "--model", project.folder / MODEL)
    said = predict("-", *asked, "--format", "csv", given="".join(f"{row['file']}\n" for row in tested).encode())
    assert said.status == 0, said.err
    sets = [json.loads(row["classes"]) for row in said.table]
    held = [row["actual"] in named for row, named in zip(tested, sets, strict=True)]
    assert np.mean(held) == pytest.approx(metrics["set_coverage_90"], abs=1e-6)
    assert np.mean([len(named) for named in sets]) == pytest.approx(metrics["set_size_90"], abs=1e-6)
    assert len({len(named) for named in sets}) > 1

    description = load_classifier(project.folder / MODEL).description
    assert description.val_images == 36
    expected = np.load(results / "probabilities.npy") >= description.set_thresholds["0.90"]
    assert [len(named) for named in sets] == expected.sum(axis=1).tolist()
    given = predict("-", *asked, "--format", "json", given="".join(f"{row['file']}\n" for row in tested).encode())
    assert [[one["class"] for one in answer["set"]] for answer in json.loads(given.out)] == sets
    found = imgpipe.load(project.folder / MODEL).predict([row["file"] for row in tested], coverage=0.9)
    assert [one.classes for one in found] == sets


def test_sets_are_shown_the_likeliest_class_first_and_empty_ones_are_counted(place: Path) -> None:
    """From the median of the images' confidences on, half of the sets are empty; from 0 on, they hold all classes."""
    likely = predict("test", "--format", "csv").table
    halfway = sum(sorted(float(row["confidence"]) for row in likely)[17:19]) / 2
    other_model(set_thresholds={"0.50": halfway, "0.60": 0.0}, val_images=36)
    said = predict("test", "--coverage", 0.5, "--model", "other.safetensors", "--grid", "grid.svg")
    assert said.status == 0
    assert said.err == "18 of 36 sets are empty, as so low a coverage allows; ask for more\n"
    lines = said.out.splitlines()
    assert re.fullmatch(r"file +set", lines[0])
    for line, row in zip(lines[1:], likely, strict=True):
        sure = float(row["confidence"])
        assert line.split(maxsplit=1)[1] == (f"{row['predicted']} {sure:.1%}" if sure >= halfway else "empty set")
    assert Path("grid.svg").read_text().count("<!-- empty set -->") == 18
    every = predict("test", "--coverage", 0.6, "--model", "other.safetensors", "--grid", "grid.svg")
    assert every.err == ""
    assert all(line.count("%") == 4 for line in every.out.splitlines()[1:])
    assert len(re.findall(r"<!-- \d \(\d+%\) \+3 -->", Path("grid.svg").read_text())) == 36


def test_below_the_threshold_no_class_is_named(place: Path) -> None:
    likely = predict("test", "--format", "csv").table
    halfway = sum(sorted(float(row["confidence"]) for row in likely)[17:19]) / 2
    other_model(threshold=halfway, val_images=36)
    asked = ("test", "--none-below-threshold", "--model", "other.safetensors")
    sure = [float(row["confidence"]) >= halfway for row in likely]
    said = predict(*asked, "--format", "csv", "--grid", "grid.svg")
    assert said.table == [
        row if named else row | {"predicted": "", "confidence": ""} for row, named in zip(likely, sure, strict=True)
    ]
    assert Path("grid.svg").read_text().count("<!-- none of these -->") == 18
    shown = predict(*asked).out.splitlines()[1:]
    assert [line.endswith("  none of these") for line in shown] == [not named for named in sure]


def other_model(**chosen: Any) -> None:
    """The model with other thresholds, as other.safetensors."""
    classifier = load_classifier(Path(MODEL))
    classifier.description = replace(classifier.description, **chosen)
    save_classifier(Path("other.safetensors"), classifier)


def test_what_cannot_be_read_is_named_with_its_reason_and_the_rest_is_predicted(place: Path) -> None:
    good = sorted(map(str, Path("test").rglob("*.png")))[:3]
    Path("broken.png").write_bytes(Path(good[0]).read_bytes()[:60])
    Path("notes").write_text("no image")
    shutil.copy(good[1], "image without an ending")
    said = predict(good[0], "broken.png", "gone.png", "notes", "image without an ending", good[2], "--format", "csv")
    assert said.status == 1
    assert [row["file"] for row in said.table] == [good[0], "image without an ending", good[2]]
    problems = dict(line.split(": ", 1) for line in said.err.splitlines()[:-1])
    assert list(problems) == ["gone.png", "broken.png", "notes"]
    assert problems["broken.png"].startswith("it is damaged or cut short: ")
    assert problems["notes"] == "its content is no image, or its start is damaged"
    assert said.err.splitlines()[-1] == "3 left out, 3 predicted"


def test_names_in_any_script_and_bytes_that_are_no_text_come_out_as_utf_8(place: Path) -> None:
    image = next(Path("test").rglob("*.png"))
    names = ["grüße 語.png", 'two\nlines, "quoted".png', os.fsdecode(b"not-\xff-text.png")]
    for name in names:
        shutil.copy(image, name)
    readable = [*names[:2], r"not-\xff-text.png"]
    assert [row["file"] for row in predict(*names, "--format", "csv").table] == readable
    assert [one["file"] for one in json.loads(predict(*names, "--format", "json").out)] == readable
    shown = [line.split("  ")[0] for line in predict(*names).out.splitlines()[1:]]
    assert shown == [readable[0], r'two\nlines, "quoted".png', readable[2]]


def test_mistakes_are_one_line_and_exit_status_1(place: Path) -> None:
    image = str(next(Path("test").rglob("*.png")))
    Path("text.safetensors").write_text("no model")
    Path("cut.safetensors").write_bytes(Path(MODEL).read_bytes()[:2000])
    cases = {
        (image, "--model", "gone"): "there is no model file 'gone'; dvc repro makes one",
        (image, "--model", "text.safetensors"): "'text.safetensors' is no classifier that this imgpipe can read",
        (image, "--model", "cut.safetensors"): "'cut.safetensors' is no classifier that this imgpipe can read",
        (image, "--top", "5"): "--top is 5, but the model has 4 classes",
        (image, "--grid", "x.bmp"): "--grid is 'x.bmp'; its name must end in .png or .svg",
        (image, "--grid", "test"): "'test' is a folder; name a file to write",
        (image, "--output", "test"): "'test' is a folder; name a file to write",
        (image, "--top", "2", "--coverage", "0.9"): "--coverage and --top each choose the classes that are named; ",
        (image, "--coverage", "0.99"): "--coverage is 0.99, which takes 99 images",
        (image, "--coverage", "95"): "--coverage is 95.0; it must be from 0.50 to 0.99, in steps of 0.01",
        (image, "--none-below-threshold"): "the model has no threshold for --none-below-threshold",
        ("-",): "no image is left to predict",
    }
    for arguments, message in cases.items():
        said = predict(*arguments)
        assert (said.status, said.out) == (1, ""), arguments
        assert said.err.startswith(f"error: {message}"), said.err
        assert said.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--output", "--grid"])
def test_an_answer_that_cannot_be_written_is_refused_before_predicting(place: Path, option: str) -> None:
    """Without a model, which would be said to be missing."""
    image = str(next(Path("test").rglob("*.png")))
    cases = {
        "/proc/x.png": "No such file or directory",
        f"{image}/x.png": "Not a directory",
        f"{image}/y/x.png": "Not a directory",
        f"{'x' * 300}.png": "File name too long",
    }
    for name, reason in cases.items():
        said = predict(image, "--model", "gone", option, name)
        assert (said.status, said.out) == (1, "")
        assert said.err == f"error: '{name}' can't be written: {reason}; name another file or make room\n"


@pytest.mark.parametrize("option", ["--output", "--grid"])
def test_an_answer_that_turns_out_not_to_be_writable_is_one_line(place: Path, option: str) -> None:
    name = f"{'x' * 250}.png"  # is no longer than allowed, but what is written beside it first is
    said = predict(next(Path("test").rglob("*.png")), option, name)
    assert said.status == 1
    assert said.err == f"error: '{name}' can't be written: File name too long; name another file or make room\n"


def test_a_safetensors_file_of_somebody_else_is_refused(place: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, "other.safetensors")
    said = predict("test", "--model", "other.safetensors")
    assert said.status == 1
    assert said.err.startswith("error: 'other.safetensors' is no classifier that this imgpipe can read")


def test_a_file_takes_the_answers_in_place_of_standard_output(place: Path) -> None:
    said = predict("test/0", "--format", "csv", "--output", "new/answers.csv")
    assert (said.status, said.out) == (0, "")
    assert len(read_table(Path("new/answers.csv"))) == len(list(Path("test/0").iterdir()))


@pytest.mark.parametrize("option", ["--output", "--grid"])
def test_a_link_stays_and_its_file_is_written_and_a_device_stays(place: Path, option: str) -> None:
    """Also where the link leads nowhere yet."""
    name = "results.svg"
    for target in ("there.svg", "new/results.svg"):
        Path("there.svg").write_text("old")
        Path(name).symlink_to(target)
        assert predict("test/0", option, name).status == 0
        assert Path(name).is_symlink()
        assert Path(target).stat().st_size > 3
        Path(name).unlink()
    Path("null.svg").symlink_to("/dev/null")
    assert predict("test/0", option, "null.svg").status == 0
    assert Path("null.svg").readlink() == Path("/dev/null")
    assert not Path("/dev/null").is_file()


def test_a_pipe_takes_the_answers(place: Path) -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
        assert predict("test/0", "--format", "csv", "--output", "pipe").status == 0
        assert reader.stdout
        assert reader.stdout.read().startswith(b"file,predicted,confidence\n")
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("size", [10**30, 2**63, 2**20 + 1, 0, "9" * 10_000])
def test_a_batch_size_out_of_range_is_refused(place: Path, size: object) -> None:
    said = predict("test/0", "--batch-size", size)
    assert said.status == 2
    assert "Traceback" not in said.err


def test_the_grid_shows_each_image_with_its_answer(place: Path) -> None:
    files = sorted(Path("test/1").iterdir())
    said = predict("test/1", "--grid", "grid.svg")
    assert said.status == 0, said.err
    drawn = Path("grid.svg").read_text()
    assert drawn.count("<image") == len(files)
    assert re.findall(r"<!-- (\d{4}\.png) -->", drawn) == [file.name for file in files]
    sure = [re.findall(r"\S+", line)[1:] for line in said.out.splitlines()[1:]]
    shown = re.findall(r"<!-- (\d) \((\d+)%\) -->", drawn)
    assert [name for name, _ in shown] == [name for name, _ in sure]
    assert [int(share) for _, share in shown] == pytest.approx([float(share[:-1]) for _, share in sure], abs=0.51)
    assert predict("test/1", "--grid", "grid.png").status == 0
    assert (np.asarray(Image.open("grid.png").convert("L")) < 100).mean() > 0.3  # digits are light on black squares


def test_a_grid_of_many_images_says_how_many_it_shows(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(galleries, "SHEET_MOST", 5)
    said = predict("test", "--grid", "grid.svg")
    assert said.err == "grid.svg shows the first 5 of 36 images\n"
    assert Path("grid.svg").read_text().count("<image") == 5


def test_standard_output_is_the_answers_alone_and_the_bar_is_on_the_terminal_of_standard_error(place: Path) -> None:
    """With a terminal for standard error, a bar from the first image on, and a broken image named above it."""
    Path("test/0/broken.png").write_text("")
    shown, printed = on_terminal(
        "from imgpipe.common import progress; progress.LONG = 0.0\n"
        "from imgpipe.commands.__main__ import app; app(['predict', 'test', '--format', 'csv', '--batch-size', '4'])",
        Path.cwd(),
    )
    assert len(list(csv.DictReader(io.StringIO(printed)))) == 36
    assert "predicting" in shown
    assert "/37" in shown
    assert "test/0/broken.png: it is empty" in shown


def test_nothing_is_shown_of_progress_where_standard_error_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LONG", 0.0)
    assert list(progress.counting_where_long("x", range(3), 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
