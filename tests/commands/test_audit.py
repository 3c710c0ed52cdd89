"""``imgpipe audit`` on runs whose files are made up, in a real repository that has a revision for each."""

import io
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from browser import MISSING, chromium
from closure import ROOT
from conftest import Project as Finished
from PIL import Image
from typer.testing import CliRunner, Result

from imgpipe.commands.__main__ import app
from imgpipe.common.files import read_table, write_table
from imgpipe.prepare.formats import FORMATS

CLASSES = ["cat", "dog", "fox & <hen>"]


@dataclass(frozen=True)
class Photo:
    """An image of a class, labelled rightly or not."""

    number: int
    label: str
    looks_like: str

    @property
    def source(self) -> str:
        return f"photos/{self.label[:3]}/{self.number:03}.jpg"

    @property
    def row(self) -> dict[str, object]:
        name = f"{self.label}/{self.number:03}.png"
        row = {"name": name, "label": self.label, "group": "", "source": self.source, "pixels": f"p{self.number}"}
        return row | {"width": 40, "height": 30}


@cache
def png(side: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format="png")
    return file.getvalue()


PHOTOS = [Photo(i, CLASSES[i % 3], CLASSES[i % 3]) for i in range(60)]
WRONG = {7: "cat", 20: "dog"}
"""What photos look like that are labelled as something else: 7 as dog, 20 as fox."""
PHOTOS = [replace(photo, looks_like=WRONG.get(photo.number, photo.label)) for photo in PHOTOS]


@dataclass
class Project:
    """A repository that has the files of runs, as they would be after a pipeline."""

    folder: Path

    def run(self, splits: dict[str, list[Photo]], name: str = "", classes: Sequence[str] = CLASSES) -> None:
        """Write the files of a run with these splits; with a name as a commit that has it as its tag."""
        rows = [
            {**photo.row, "file": f"{split}/{photo.row['name']}", "split": split}
            for split, photos in splits.items()
            for photo in photos
        ]
        names = ["file", "split", "label", "group", "source", "width", "height", "pixels"]
        write_table(self.folder / "data/images.csv", names, [{key: row[key] for key in names} for row in rows])
        slices = [
            {"file": f"{split}/{photo.row['name']}", "camera": "phone" if photo.number < 30 else ""}
            for split, photos in splits.items()
            for photo in photos
        ]
        write_table(self.folder / "data/slices.csv", ["file", "camera"], slices)
        for split in ("val", "test"):
            self._predictions(split, splits.get(split, []), classes)
        if name:
            self.git("add", "--all")
            self.git("commit", "--quiet", "--message", name)
            self.git("tag", name)

    def _predictions(self, split: str, photos: list[Photo], classes: Sequence[str]) -> None:
        folder = self.folder / "metrics" / split
        predictions = [
            {"file": f"{split}/{photo.row['name']}", "actual": photo.label, "predicted": photo.looks_like}
            for photo in photos
        ]
        write_table(folder / "predictions.csv", ["file", "actual", "predicted"], predictions)
        write_table(folder / "classes.csv", ["class"], [{"class": name} for name in classes])
        likely = np.array([[name == photo.looks_like for name in classes] for photo in photos])
        np.save(folder / "probabilities.npy", np.where(likely, 0.9, 0.1 / max(1, len(classes) - 1)).astype(np.float32))

    def prepared(self, splits: dict[str, list[Photo]], form: str = "tar", side: int = 40) -> None:
        files = [(f"{split}/{photo.row['name']}", png(side)) for split, photos in splits.items() for photo in photos]
        (self.folder / "data/prepared").mkdir(parents=True)
        FORMATS[form](self.folder / "data/prepared", sorted(files))

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout


def folds(photos: list[Photo], count: int, fold: int) -> dict[str, list[Photo]]:
    """Return the splits of a fold: every so-manieth image, from this one on, is tested."""
    rest = [photo for i, photo in enumerate(photos) if i % count != fold]
    return {"train": rest[4:], "val": rest[:4], "test": photos[fold::count]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository with nothing but DVC's folder, in which the test runs."""
    made = Project(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    (tmp_path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")  # as dvc init does
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text() + "/data/prepared\n")
    made.git("init", "--quiet", "--initial-branch", "main")
    for key, value in {"user.name": "Tester", "user.email": "tester@example.org", "commit.gpgsign": "false"}.items():
        made.git("config", key, value)
    monkeypatch.chdir(tmp_path)
    return made


def audit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


def succeeded(*arguments: str) -> str:
    result = audit(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def one_line_error(*arguments: str) -> str:
    result = audit(*arguments)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip()


def test_folds_are_audited_together(project: Project) -> None:
    for fold in range(3):
        project.run(folds(PHOTOS, 3, fold), f"folds-{fold}")
    project.prepared(folds(PHOTOS, 3, 2))
    shown = succeeded("folds-*")
    assert shown.startswith(
        "60 images, each tested by one of 3 runs that was not trained on it; 0.9667 of the predictions are right.\n\n"
        "Labels that are"
    )
    rows = read_table(project.folder / "audit/labels.csv")
    assert [(row["source"], row["label"], row["suggested"]) for row in rows] == [
        ("photos/dog/007.jpg", "dog", "cat"),
        ("photos/fox/020.jpg", CLASSES[2], "dog"),
    ]
    assert rows[0] == {
        "rank": "1", "revision": "folds-1", "file": "test/dog/007.png", "source": "photos/dog/007.jpg", "label": "dog",
        "suggested": "cat", "p_label": "0.05", "p_suggested": "0.9", "score": "0.075", "counted": "True",
    }  # fmt: skip
    assert "Most frequent: labelled looks like images estimate dog cat 1 1 fox & <hen> dog 1 1 " in " ".join(
        shown.split()
    )
    slices = read_table(project.folder / "audit/slices.csv")
    assert {(row["by"], row["value"], row["accuracy"]) for row in slices} == {
        ("class", "cat", "1.0"),
        ("class", "dog", "0.95"),
        ("class", CLASSES[2], "0.95"),
        ("camera", "phone", str(28 / 30)),
        ("camera", "", "1.0"),
    }
    assert shown.endswith("\naudit: audit.html, labels.csv, slices.csv\n")
    assert project.git("status", "--porcelain") == ""


def test_runs_may_know_the_classes_in_another_order(project: Project) -> None:
    project.run(folds(PHOTOS, 2, 0), "a")
    project.run(folds(PHOTOS, 2, 1), "b", classes=CLASSES[::-1])
    assert "Labels that are probably wrong: 2. Estimated in all: 2 of 60 (3.3%)." in succeeded("a,b")


def test_a_single_run_is_audited_on_its_validation_and_test_images(project: Project) -> None:
    project.run(folds(PHOTOS, 3, 1), "one")
    project.prepared(folds(PHOTOS, 3, 1), "tree")
    for shown in (succeeded("one"), succeeded()):
        assert "24 images, the validation and test images of" in shown
        assert "The validation images chose the epoch" in shown
        assert "trained on them: 36;" in shown
        assert "probably wrong: 1. " in shown  # 20 is trained on


@pytest.mark.parametrize("form", ["tar", "tree"])
def test_the_page_shows_the_pictures_in_whichever_split_they_are(project: Project, form: str) -> None:
    for fold in range(3):
        project.run(folds(PHOTOS, 3, fold), f"folds-{fold}")
    project.prepared(folds(PHOTOS, 3, 2), form)
    succeeded("folds-*")
    page = (project.folder / "audit/audit.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 2
    assert "fox &amp; &lt;hen&gt;" in page
    assert "<hen>" not in page
    page = page.replace("\u200b", "")  # where a path may break
    assert "photos/fox/020.jpg" in page
    assert page.index("photos/dog/007.jpg") < page.index("photos/fox/020.jpg")


def test_pictures_that_the_workspace_does_not_have_are_counted(project: Project) -> None:
    for fold in range(3):
        project.run(folds(PHOTOS, 3, fold), f"folds-{fold}")
    project.run({"train": PHOTOS[10:], "val": [], "test": []})
    project.prepared({"train": PHOTOS[10:]})
    assert "Images that the page lacks, since data/prepared of the workspace does not have them: 1." in succeeded(
        "folds-*"
    )
    page = (project.folder / "audit/audit.html").read_text()
    assert (page.count("<img"), page.count("not in the workspace")) == (1, 1)
    (project.folder / "data/images.csv").unlink()
    assert "does not have them: 2." in succeeded("folds-*")


def test_images_that_no_run_tested_are_counted(project: Project) -> None:
    for fold in range(3):
        project.run(folds(PHOTOS, 3, fold), f"folds-{fold}")
    assert "Images that no run tested: 20." in succeeded("folds-0,folds-2")


def test_runs_that_were_tested_on_the_same_image_are_refused(project: Project) -> None:
    project.run(folds(PHOTOS, 3, 0), "seed-0")
    project.git("commit", "--quiet", "--allow-empty", "--message", "again")
    project.git("tag", "seed-1")
    assert one_line_error("seed-*") == (
        "'seed-0' and 'seed-1' were both tested on 'photos/cat/000.jpg', so they are no folds of the images: give one "
        "of them, or runs that differ in prepare.fold alone"
    )


def test_runs_of_other_classes_are_refused(project: Project) -> None:
    project.run(folds(PHOTOS, 3, 0), "a")
    project.run(folds(PHOTOS, 3, 1), "b", classes=[*CLASSES, "wolf"])
    assert one_line_error("a,b").endswith("can't be audited together: only one of them has 'wolf'")


def test_runs_with_another_label_for_an_image_are_refused(project: Project) -> None:
    project.run(folds(PHOTOS, 3, 0), "a")
    project.run(folds([replace(PHOTOS[0], label="dog"), *PHOTOS[1:]], 3, 1), "b")
    assert one_line_error("a,b").startswith("'a' and 'b' have different labels for one image (")


def test_one_class_is_refused(project: Project) -> None:
    cats = [photo for photo in PHOTOS if photo.label == photo.looks_like == "cat"]
    project.run({"val": cats[:5], "test": cats[5:]}, classes=["cat"])
    assert one_line_error() == "'workspace' knows 1 class: an audit of labels needs at least 2"


def test_what_is_not_there_is_said_in_one_line(project: Project) -> None:
    project.run(folds(PHOTOS, 3, 0), "a")
    assert one_line_error("folds-*").startswith("'folds-*' matches no experiment, branch or tag")
    (project.folder / "metrics/val/predictions.csv").unlink()
    assert one_line_error().startswith("the workspace has no metrics/val/predictions.csv")
    (project.folder / "file").touch()
    assert one_line_error("a", "--output", "file").startswith("'file/audit.html' can't be written: Not a directory")


@pytest.mark.parametrize("file", ["data/images.csv", "metrics/val/predictions.csv", "metrics/test/probabilities.npy"])
def test_files_that_do_not_go_together_are_refused(project: Project, file: str) -> None:
    project.run(folds(PHOTOS, 3, 0))
    path = project.folder / file
    if file.endswith(".npy"):
        np.save(path, np.zeros((3, 3), dtype=np.float32))
    else:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert one_line_error().endswith("run `dvc repro` at 'workspace'")


def test_a_table_of_another_version_is_refused(project: Project) -> None:
    project.run(folds(PHOTOS, 3, 0))
    write_table(project.folder / "data/images.csv", ["path"], [{"path": "1.png"}])
    assert one_line_error().startswith("'workspace': data/images.csv has no column 'file'")


def test_where_no_label_looks_wrong_the_page_says_so(project: Project) -> None:
    project.run(folds([replace(photo, looks_like=photo.label) for photo in PHOTOS], 3, 0))
    assert "probably wrong: 0. Estimated in all: 0 of 24 (0.0%)." in succeeded()
    assert "<ol" not in (project.folder / "audit/audit.html").read_text()


def test_the_page_stays_below_five_megabytes_and_needs_no_script(project: Project) -> None:
    """Noise is what JPEG compresses worst; every third of 480 images is labelled wrong."""
    photos = [Photo(i, CLASSES[i % 2], CLASSES[1 if i % 3 == 0 else i % 2]) for i in range(960)]
    splits = {"val": photos[:480], "test": photos[480:]}
    project.run(splits)
    project.prepared(
        {name: [photo for photo in its if photo.label != photo.looks_like] for name, its in splits.items()}, side=200
    )
    succeeded()
    page = project.folder / "audit/audit.html"
    text = page.read_text()
    assert text.count('<img src="data:image/jpeg') == 150
    assert "<script" not in text
    assert page.stat().st_size < 5_000_000
    assert "150 of 160; labels.csv has all" in text


def test_the_page_fits_a_phone_and_a_desk(project: Project) -> None:
    if MISSING:
        pytest.skip(f"no {' and no '.join(MISSING)}: apt-get install chromium chromium-driver")
    project.run(folds(PHOTOS, 3, 1))
    project.prepared(folds(PHOTOS, 3, 1))
    succeeded()
    with chromium() as browser:
        for width in (390, 1280):
            browser.open(project.folder / "audit/audit.html", width=width)
            assert browser.run("return document.documentElement.scrollWidth") == width
            assert browser.run("return [...document.images].every(image => image.naturalWidth > 0)")
        assert browser.complaints() == []
        assert len(browser.requests()) == 2  # the page itself, twice


def test_a_pipeline_that_has_run_is_audited(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it lies, and as a commit, whose files come from DVC's cache."""
    monkeypatch.chdir(finished.folder)
    rows = read_table(finished.folder / "data/images.csv")
    audited = sum(row["split"] != "train" for row in rows)
    here, there = succeeded(), succeeded("main")
    assert f"{audited} images, the validation and test images of workspace" in here
    assert f"trained on them: {len(rows) - audited};" in here
    assert here == there.replace("images of main;", "images of workspace;")
    assert "lacks" not in here
    assert finished.succeed("git", "status", "--porcelain").out == ""
