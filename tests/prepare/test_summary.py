"""The account of what was prepared."""

from pathlib import Path

import pytest
from prepare.pets import ANOTHER, SPLIT_PETS, read, sort_in
from samples import encoded, noise, photo, zip_of

from imgpipe.prepare.reading import Rejected
from imgpipe.prepare.summary import log_summary, summary


def test_the_summary_counts_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    added = {"train/cat/a.png": ANOTHER, "test/dog/c.png": ANOTHER, "train/cat/large.png": encoded(photo())}
    found, _ = read(zip_of(tmp_path / "pets.zip", SPLIT_PETS | added))
    images, duplicates = sort_in(found)
    rejected = [Rejected("x.jpg", "it is empty", True), Rejected("notes.txt", "no image", False)]
    told = summary(images, rejected, duplicates)
    assert told["images"] == {"all": 26, "train": 9, "val": 8, "test": 9}
    assert told["classes"] == {
        "cat": {"train": 5, "val": 4, "test": 4},
        "dog": {"train": 4, "val": 4, "test": 5},
    }
    assert told["pixels"]["width"] == {"min": 12, "median": 12.0, "max": 160}
    assert told["rejected"] == {"pictures": 1, "other_files": 1}
    assert told["duplicates"] == {
        "equal": 1,
        "equal_across_splits": 1,
        "equal_with_other_label": 1,
        "near_across_splits": 0,
        "dropped": {"train": 1, "val": 0, "test": 0, "before_the_cut": 0},
    }


def test_a_class_that_a_given_split_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {f"train/{kind}/{i}.png": encoded(noise(i)) for i, kind in enumerate(("cat", "dog", "ant"))}
    files |= {f"{split}/{kind}/{split}.png": encoded(noise(len(split) + ord(kind[0]))) for split, kind in
              (("val", "cat"), ("val", "ant"), ("test", "cat"), ("test", "dog"))}  # fmt: skip
    found, rejected = read(zip_of(tmp_path / "pets.zip", files))
    images, duplicates = sort_in(found)
    log_summary(summary(images, rejected, duplicates), duplicates)
    assert caplog.messages == [
        "1 classes have no image in val, such as 'dog'",
        "1 classes have no image in test, such as 'ant'",
    ]
