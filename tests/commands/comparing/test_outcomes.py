"""The outcomes of two tests are paired by the images' pixels, and only tests on the same images can be compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgpipe.commands.comparing.outcomes import Outcome, files_of, places_in, read_outcome
from imgpipe.common.errors import InputError
from imgpipe.common.files import write_table

FILES = IMAGES, PREDICTIONS, PROBABILITIES, CLASSES = files_of("val")

ONE = Outcome(
    name="main",
    classes=["cat", "dog"],
    files=["test/cat/1.png", "test/cat/2.png", "test/dog/1.png"],
    pixels=["c1", "c2", "d1"],
    actual=["cat", "cat", "dog"],
    predicted=["cat", "dog", "dog"],
    losses=np.array([0.1, 0.9, 0.2]),
    groups=["tom", "tom", ""],
    trained_on=2,
)


def test_images_are_found_by_their_pixels_whatever_their_file_is_called() -> None:
    """What main has as cat/1, cat/2, dog/1 the other has as dog/7, cat/1 and cat/3."""
    other = replace(
        ONE,
        classes=["dog", "cat"],
        files=["test/cat/1.png", "test/cat/3.png", "test/dog/7.png"],
        pixels=["c2", "d1", "c1"],
        actual=["cat", "dog", "cat"],
    )
    assert places_in(other, ONE).tolist() == [2, 0, 1]


def test_copies_of_one_image_are_paired_one_to_one() -> None:
    copies = replace(ONE, pixels=["x", "x", "d1"])
    assert places_in(replace(copies, files=["test/cat/9.png", "test/cat/2.png", "a"]), copies).tolist() == [1, 0, 2]


def test_the_same_names_with_other_pixels_are_another_test_set() -> None:
    with pytest.raises(InputError, match=r"'main' and 'new' were tested on different images \(3 and 3, 2 of them the"):
        places_in(replace(ONE, name="new", pixels=["c1", "c9", "d1"]), ONE)


def test_a_test_set_with_an_image_more_is_another() -> None:
    more = replace(ONE, name="more", files=[*ONE.files, "x"], pixels=[*ONE.pixels, "x"], actual=[*ONE.actual, "cat"])
    with pytest.raises(InputError, match=r"different images \(3 and 4, 3 of them the same\)"):
        places_in(more, ONE)
    with pytest.raises(InputError, match=r"different images \(4 and 3, 3 of them the same\)"):
        places_in(ONE, more)


def test_the_same_images_with_another_label_are_refused() -> None:
    with pytest.raises(InputError, match=r"other labels for 1 of the same .* 'test/cat/2.png', cat and dog"):
        places_in(replace(ONE, name="new", actual=["cat", "dog", "dog"]), ONE)


def test_other_classes_are_refused_and_named() -> None:
    with pytest.raises(InputError, match=r"know different classes.*: only 'new' has bird$"):
        places_in(replace(ONE, name="new", classes=["bird", "cat", "dog"]), ONE)
    with pytest.raises(InputError, match=r"only 'main' has dog; only 'new' has wolf$"):
        places_in(replace(ONE, name="new", classes=["cat", "wolf"]), ONE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of ``ONE``; its probabilities of the true classes are 0.8, 0.3 and 0."""
    rows = [
        {"file": file, "split": "val", "label": label, "pixels": pixels, "group": group}
        for file, label, pixels, group in zip(ONE.files, ONE.actual, ONE.pixels, ONE.groups, strict=True)
    ]
    others = {"train/cat/4.png": "train", "train/cat/5.png": "train", "test/cat/6.png": "test"}
    rows += [{"file": f, "split": s, "label": "cat", "pixels": f, "group": ""} for f, s in others.items()]
    write_table(tmp_path / IMAGES, ["file", "split", "label", "pixels", "group"], rows[::-1])
    write_table(
        tmp_path / PREDICTIONS,
        ["file", "actual", "predicted"],
        [
            {"file": file, "actual": actual, "predicted": predicted}
            for file, actual, predicted in zip(ONE.files, ONE.actual, ONE.predicted, strict=True)
        ],
    )
    write_table(tmp_path / CLASSES, ["class"], [{"class": "cat"}, {"class": "dog"}])
    (tmp_path / PROBABILITIES).parent.mkdir(parents=True, exist_ok=True)
    np.save(tmp_path / PROBABILITIES, np.array([[0.8, 0.2], [0.3, 0.7], [1, 0]], dtype=np.float32))
    return tmp_path


def test_a_test_is_read_from_its_files(folder: Path) -> None:
    test = read_outcome("main", folder, "val")
    assert replace(test, losses=ONE.losses) == ONE
    # float32's smallest number, for what it rounded to 0, is 2^-149
    assert test.losses == pytest.approx([-np.log(0.8), -np.log(0.3), 149 * np.log(2)])


@pytest.mark.parametrize("path", FILES)
def test_files_that_do_not_go_together_are_refused(folder: Path, path: str) -> None:
    file = folder / path
    if path == PROBABILITIES:
        np.save(file, np.zeros((3, 3), dtype=np.float32))
    else:
        *lines, _ = file.read_text().splitlines(keepends=True)
        lines = [lines[0], *lines[2:]] if path == IMAGES else lines
        file.write_text("".join(lines))
    with pytest.raises(InputError, match=r"^'main': .* `dvc repro` at 'main'$"):
        read_outcome("main", folder, "val")


def test_a_table_of_an_older_version_is_refused(folder: Path) -> None:
    write_table(folder / IMAGES, ["path"], [{"path": "test/cat/1.png"}])
    with pytest.raises(
        InputError, match=r"^'main': data/images.csv has no column 'file', it was made by another version"
    ):
        read_outcome("main", folder, "val")
